"""Places traded for channels: a permutation of an image's numbers, whose log-determinant is 0."""

import jax

Array = jax.Array


def squeeze(x: Array) -> Array:
    """[B, H, W, C] -> [B, H / 2, W / 2, 4 C]: the four pixels of a block become channels, H and W even.

    Channel 4 c + 2 i + j of the result is channel c of the pixel at row i and column j of its block.

    Reference: Dinh et al. 2017 (RealNVP), section 3.6.
    """
    b, h, w, c = x.shape
    if h % 2 or w % 2:
        raise ValueError(f"squeezing halves height and width, which must be even; got {x.shape}")
    x = x.reshape(b, h // 2, 2, w // 2, 2, c)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 2, 4 * c)  # [B, H / 2, W / 2, C, 2, 2] -> [..., 4 C]


def unsqueeze(y: Array) -> Array:
    """[B, H, W, 4 C] -> [B, 2 H, 2 W, C], the inverse of `squeeze`."""
    b, h, w, c = y.shape
    if c % 4:
        raise ValueError(f"what was squeezed has four channels for one; got {y.shape}")
    y = y.reshape(b, h, w, c // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3)  # [B, H, 2, W, 2, C]
    return y.reshape(b, 2 * h, 2 * w, c // 4)
