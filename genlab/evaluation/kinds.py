"""What examples are, by their shape and type."""

from typing import Any, Literal

import numpy as np

Kind = Literal["points", "text", "series", "images"]


def kind_of(x: Any) -> Kind:
    """Of points f[N, D], text i32[N, T], series f[N, T, C] or images [N, H, W, C]."""
    rank = len(np.shape(x))
    if rank == 2:
        return "text" if np.issubdtype(x.dtype, np.integer) else "points"
    return "series" if rank == 3 else "images"
