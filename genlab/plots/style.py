"""The one look of every figure: small sans type, thin lines, no frames, readable at 800 pixels."""

from typing import Any

import matplotlib
from cycler import cycler

WIDTH = 8.0  # inches; a page shows a figure at 100 pixels an inch
DPI = 200  # of the file: two pixels for each one shown, sharp on dense screens

INK = "#222222"
MUTED = "#8a8a8a"
BLUE, ORANGE, RED = "#3b6ea5", "#d9822b", "#b3372f"
PALE = "#c9d3de"
GROUND = "#f7fbff"  # behind points: the zero of DENSITY_MAP
DENSITY_MAP = "Blues"

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same figure on every machine
    "font.size": 8.0,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 5.0,
    "axes.labelsize": 8.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, RED, MUTED]),
    "axes.formatter.useoffset": False,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "figure.facecolor": "white",
    "figure.dpi": DPI,
}

# A decorator. Settings are read while artists are made, and ticks are made as late as drawing: `save` wears it too.
styled = matplotlib.rc_context(STYLE)
