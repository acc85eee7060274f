"""One page about a run of novelty detection: a row for each class, a column for each method, and the figures."""

import base64
import pathlib
from collections.abc import Mapping
from typing import Any

from genlab.evaluation.numbers import format_value, words
from genlab.evaluation.page import page, text

COLUMNS = {"auroc": "AUROC", "false_positive_rate": "normal above", "detection_rate": "anomalous above"}


def write_page(workdir: pathlib.Path, card: Mapping[str, Any], command: str) -> pathlib.Path:
    """Writes report.html from a card and the figures beside it; see experiments.novelty.

    Args:
        workdir: the run's folder, with figures/novelty_*.png.
        card: with "novelty": method -> numbers over classes, "classes": label -> method -> numbers, "protocol".
        command: the command line that made the run.

    Returns:
        The path of the page.
    """
    methods = list(card["novelty"])
    first = next(iter(card["classes"].values()))[methods[0]]["false_positive_rate"]
    body = [
        f"<h1>{text(card['recipe'])} <span>on {text(card['dataset'])}</span></h1>",
        f'<p class="soft">{text(card["protocol"])} AUROC in percent; the threshold was set for '
        f"{text(format_value(100 * first['rate_asked_for']))} % of normal images above it.</p>",
        "<h2>Measured</h2>",
        table(card, methods),
        "<h2>Figures</h2>",
        *(figure(path) for path in sorted((workdir / "figures").glob("novelty_*.png"), key=order)),
        "<h2>Run it again</h2>",
        f"<pre>{text(command)}</pre>",
    ]
    path = workdir / "report.html"
    partial = workdir / ".report.html.partial"
    partial.write_text(page(f"{card['recipe']} on {card['dataset']}", body), encoding="utf-8")
    partial.replace(path)
    return path


def table(card: Mapping[str, Any], methods: list[str]) -> str:
    """HTML; the last row is the mean over classes."""
    over = "".join(f'<th colspan="{len(COLUMNS)}">{text(words(name))}</th>' for name in methods)
    names = "".join(f"<th>{text(title)}</th>" for _ in methods for title in COLUMNS.values())
    rows = [(f"{label} is normal", blocks) for label, blocks in card["classes"].items()]
    lines = [f"<tr><th></th>{over}</tr><tr><th></th>{names}</tr>"]
    for title, blocks in [*rows, ("mean", card["novelty"])]:
        cells = "".join(
            f'<td class="n">{100 * blocks[name][column]["value"]:.1f}</td>' for name in methods for column in COLUMNS
        )
        lines.append(f"<tr><th>{text(title)}</th>{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def figure(path: pathlib.Path) -> str:
    """HTML with the picture in it."""
    caption = "Scores on the test split: normal images, anomalies and the threshold, class by class."
    if path.stem != "novelty_scores":
        caption = f"Class {path.stem.rpartition('_')[2]} is normal: extremes of the score, and the worst errors."
    source = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><div class="frame"><img alt="{text(caption)}" src="data:image/png;base64,{source}"></div>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def order(path: pathlib.Path) -> tuple[bool, int, str]:
    """The scores first, then the examples by class."""
    number = path.stem.rpartition("_")[2]
    return path.stem != "novelty_scores", int(number) if number.isdigit() else 0, path.stem
