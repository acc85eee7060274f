"""How much of an example a code loses, against how many numbers it has."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from genlab.plots import style

COLOURS = (style.ORANGE, style.BLUE, style.RED, style.INK)
DEPTH = 100.0  # PCA with all its components has no error: the curve ends this far below the least error of a model


@style.styled
def error_by_code_size(
    pca_sizes: np.ndarray,
    pca_mse: np.ndarray,
    points: Mapping[str, tuple[float | Sequence[float], float | Sequence[float]]],
) -> Figure:
    """Reconstruction error of models over the size of their codes, beside PCA's; both axes logarithmic.

    Args:
        pca_sizes: i[K], ascending, >= 1.
        pca_mse: f[K] >= 0, PCA's error at each.
        points: name -> (size, mse) of one model, or of several, which a line joins in the order of their sizes.

    Raises:
        ValueError: sizes and errors that do not belong together, or are not positive and finite.
    """
    sizes, mse = np.asarray(pca_sizes, np.float64), np.asarray(pca_mse, np.float64)
    models = {name: np.stack([np.ravel(each).astype(float) for each in pair]) for name, pair in points.items()}
    if sizes.shape != mse.shape or sizes.ndim != 1 or not sizes.size or not (sizes >= 1).all() or not (mse >= 0).all():
        raise ValueError(f"PCA has one error >= 0 for each size >= 1; got shapes {sizes.shape} and {mse.shape}")
    for name, each in models.items():
        if not each.size or not (np.isfinite(each) & (each > 0)).all():
            raise ValueError(f"{name!r} has sizes and errors, positive and finite; got {points[name]}")
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    least = min((each[1].min() for each in models.values()), default=mse.max())
    drawn = mse > least / DEPTH
    axes.plot(sizes[drawn], mse[drawn], color=style.MUTED, label="PCA")
    for (name, each), colour in zip(models.items(), COLOURS * len(models), strict=False):
        ordered = each[:, np.argsort(each[0], kind="stable")]
        axes.plot(*ordered, color=colour, marker="o", ms=5, mew=0, lw=1.0, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{error:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.grid()
    axes.set_xlabel("numbers in the code")
    axes.set_ylabel("squared error per dimension")
    figure.legend(loc="outside upper right", ncols=1 + len(models), handlelength=1.2)
    return figure
