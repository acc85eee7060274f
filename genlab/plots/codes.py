"""What the dimensions of a code carry."""

import math

import numpy as np
from matplotlib.figure import Figure

from genlab.plots import style


@style.styled
def kl_per_dimension(kl: np.ndarray, threshold: float = 0.01) -> Figure:
    """The KL divergence from the prior that each latent dimension costs, largest first; unused ones are pale.

    Args:
        kl: f[D] >= 0, nats, averaged over examples.
        threshold: a dimension above it counts as active, nats. (Burda et al. 2016 count by the variance of the
            posterior mean instead; a dimension without KL is inactive by either.)

    Raises:
        ValueError: not a vector of finite numbers.
    """
    kl = np.asarray(kl, np.float64)
    if kl.ndim != 1 or kl.size == 0 or not np.isfinite(kl).all():
        raise ValueError(f"the KL of each latent dimension is a finite vector [D]; got shape {kl.shape}")
    order = np.argsort(-kl, kind="stable")
    active = kl[order] > threshold
    figure = Figure(figsize=(style.WIDTH * 0.8, 2.4), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(np.arange(len(kl)), kl[order], width=0.82, color=[style.BLUE if a else style.PALE for a in active])
    axes.set_title(f"{active.sum()} of {len(kl)} dimensions carry more than {threshold:g} nats")
    axes.set_ylabel("KL from the prior (nats)")
    axes.set_xlim(-0.7, len(kl) - 0.3)
    axes.set_ylim(bottom=0.0)
    if len(kl) <= 40:
        axes.set_xticks(np.arange(len(kl)), [str(i) for i in order])
        axes.set_xlabel("latent dimension, largest first")
    else:
        axes.set_xlabel("rank of the latent dimension")
    axes.tick_params(axis="x", length=0)
    return figure


@style.styled
def code_histograms(codes: np.ndarray, max_dims: int = 12, prior: bool = True) -> Figure:
    """The distribution of codes over a set of examples, one panel a dimension.

    Args:
        codes: f[N, D]; the `max_dims` dimensions of largest variance are shown, largest first.
        max_dims: panels at most.
        prior: draws the standard normal over each.

    Raises:
        ValueError: not [N, D], or not finite.
    """
    codes = np.asarray(codes, np.float64)
    if codes.ndim != 2 or codes.size == 0 or not np.isfinite(codes).all():
        raise ValueError(f"histograms take finite codes [N, D]; got shape {codes.shape}")
    shown = np.argsort(-codes.var(axis=0), kind="stable")[:max_dims]
    columns = min(6, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(max(2.0, style.WIDTH * columns / 6), 1.3 * rows + 0.2), layout="constrained")
    reach = max(3.0 if prior else 0.0, float(np.quantile(np.abs(codes[:, shown]), 0.999)))
    least = 0.0 if not prior and codes.min() >= 0 else -reach
    reach = reach or 1.0  # of codes that are all zero
    z = np.linspace(-reach, reach, 201)
    for position, dimension in enumerate(shown):
        axes = figure.add_subplot(rows, columns, position + 1)
        axes.hist(codes[:, dimension], bins=40, range=(least, reach), density=True, color=style.PALE)
        if prior:
            axes.plot(z, np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi), color=style.INK, lw=0.8)
        axes.set_title(f"dimension {dimension}", loc="center", fontsize=7.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlim(least, reach)
    return figure


@style.styled
def activation_histograms(codes: np.ndarray, target: float | None = None) -> Figure:
    """How much the units of a code without negative numbers are used: each on the whole, and each by each example.

    The second panel's counts are logarithmic: of a sparse code most activations are zero.

    Args:
        codes: f[N, D] >= 0.
        target: the mean activation that was asked of each unit, drawn as a line.

    Raises:
        ValueError: not [N, D], not finite, or negative.
    """
    codes = np.asarray(codes, np.float64)
    if codes.ndim != 2 or codes.size == 0 or not (np.isfinite(codes) & (codes >= 0)).all():
        raise ValueError(f"activations are finite codes [N, D] >= 0; got shape {codes.shape}")
    means = codes.mean(axis=0)
    figure = Figure(figsize=(style.WIDTH * 0.8, 2.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    top = max(means.max(), target or 0.0)
    left.hist(means, bins=40, range=(0.0, 1.05 * top or 1.0), color=style.BLUE)
    left.set_title(f"{np.count_nonzero(means == 0):,} of {codes.shape[1]:,} units are never active")
    left.set_xlabel("mean activation of a unit")
    left.set_ylabel("units")
    if target is not None:
        left.axvline(target, color=style.ORANGE, lw=1.0)
        left.set_title(f"target {target:g}", loc="right", color=style.ORANGE)
    right.hist(codes.ravel(), bins=40, range=(0.0, codes.max() or 1.0), color=style.BLUE, log=True)
    right.set_title(f"{np.mean(codes == 0):.0%} are zero")
    right.set_xlabel("activation of a unit by an example")
    right.set_ylabel("activations")
    for axes in (left, right):
        axes.locator_params(axis="x", nbins=5)
    return figure


@style.styled
def code_usage(counts: np.ndarray) -> Figure:
    """How often each code of a codebook is used, the most used first, and how often if all were used alike.

    Args:
        counts: f[K] >= 0, not all of them 0.

    Raises:
        ValueError: not such a vector.
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or not counts.sum() > 0 or counts.min() < 0:
        raise ValueError(f"how often codes are used is a vector [K] of counts; got shape {counts.shape}")
    figure = Figure(figsize=(style.WIDTH * 0.8, 2.4), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(np.arange(len(counts)), np.sort(counts)[::-1] / counts.sum(), width=1.0, color=style.BLUE)
    axes.axhline(1 / len(counts), color=style.ORANGE, lw=0.8)
    axes.set_yscale("log")
    axes.set_title(f"{np.count_nonzero(counts)} of {len(counts)} codes are used")
    axes.set_xlabel("code, the most used first (line: all used alike)")
    axes.set_ylabel("share of the places")
    return figure
