"""What the benchmark shows while it runs and when it is done."""

import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def teller(began: float) -> Callable[[str], None]:
    """Says what is going on: one line rewritten on a terminal, plain lines elsewhere."""
    before, after = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")

    def say(text: str) -> None:
        text = f"{time.monotonic() - began:4.0f} s  {text}" if text else ""
        print(f"{before}{text}", end=after, file=sys.stderr, flush=True)

    return say


def draw(results: Sequence[Mapping[str, Any]], grown: Sequence[Mapping[str, Any]], directory: pathlib.Path) -> None:
    """benchmark.png, of speeds beside peers, and growth.png, as far as there is something to draw."""
    from genlab.plots.benchmark import growth, speeds
    from genlab.plots.files import save

    beside = [
        (f"{result['title']}\n{ratio['program']} / {ratio['beside']}", ratio["values"], ratio["bar"])
        for result in results
        for ratio in result["ratios"]
        if ratio["of"] == "speed"
    ]
    if beside:
        save(speeds(*zip(*beside, strict=True)), directory / "benchmark.png")
    if grown:
        panels = [
            (sweep["axis"], sweep["title"], [p["value"] for p in sweep["points"]],
             [p["cost"] for p in sweep["points"]], sweep["power"])
            for sweep in grown
        ]  # fmt: skip
        save(growth(panels), directory / "growth.png")
