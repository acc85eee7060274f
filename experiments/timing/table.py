"""What was measured, as markdown: programs, ratios and their bars, growth."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

NUM_IMAGES = 60_000  # an epoch of MNIST


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]], num_left: int) -> str:
    """A table; all but the first `num_left` columns hold numbers."""
    rule = "|" + " --- |" * num_left + " ---: |" * (len(heads) - num_left)
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


def report(results: Sequence[Mapping[str, Any]], grown: Sequence[Mapping[str, Any]]) -> str:
    """All tables, and what was left out."""
    left_out = [f"{result['title']}: {line}" for result in results for line in result["left_out"]]
    rates = [
        f"{record['title']}: {name} {statistics.median(values) / 1e9:,.0f} GFLOP/s"
        for record in (*results, *grown)
        for name, values in record["product_flops_per_second"].items()
    ]
    compared = [program_table(results), ratio_table(results)] if results else []
    parts = ["\n".join(left_out), "\n".join(rates), *compared, *(growth_table(sweep) for sweep in grown)]
    return "\n\n".join(part for part in parts if part)


def program_table(results: Sequence[Mapping[str, Any]]) -> str:
    """A line a program."""
    heads = [
        "step", "program", "ms/step", "least to most", "examples/s", f"s per {NUM_IMAGES:,}", "compile s", "MiB",
        "GFLOP/step", "GFLOP/s", *(f"of {name}" for name in results[0]["product_flops_per_second"]),
    ]  # fmt: skip
    lines = [
        [
            result["title"],
            program["name"],
            *times(program["seconds_per_step"]),
            f"{program['examples_per_second']:,.0f}",
            f"{NUM_IMAGES / program['examples_per_second']:.2f}",
            *compiled(program),
            f"{result['flops_per_step'] / 1e9:.3f}",
            f"{program['flops_per_second'] / 1e9:,.0f}",
            *(f"{statistics.median(values):.0%}" for values in program["product_fractions"].values()),
        ]
        for result in results
        for program in result["programs"]
    ]
    return markdown(heads, lines, 2)


def ratio_table(results: Sequence[Mapping[str, Any]]) -> str:
    """A line for everything that one of our programs stands beside."""
    lines = []
    for result in results:
        for ratio in result["ratios"]:
            show = "{:.2f}".format if ratio["of"] == "speed" else "{:.1%}".format
            values, bar = ratio["values"], ratio["bar"]
            lines.append([
                result["title"], ratio["program"], ratio["beside"], show(statistics.median(values)),
                f"{show(min(values))}-{show(max(values))}", "" if bar is None else show(bar), verdict(values, bar),
            ])  # fmt: skip
    return markdown(["step", "program", "beside", "ratio", "least to most", "bar", "verdict"], lines, 3)


def verdict(values: Sequence[float], bar: float | None) -> str:
    """Whether the median reaches the bar, if there is one."""
    return "" if bar is None else "met" if statistics.median(values) >= bar else "MISSED"


def growth_table(sweep: Mapping[str, Any]) -> str:
    """A line for every value of a sweep."""
    heads = [
        sweep["axis"], "ms/step", "least to most", "cost", "if proportional", "examples/s", "GFLOP/s",
        f"of {sweep['product']}", "compile s", "MiB",
    ]  # fmt: skip
    lines = [
        [
            f"{point['value']:,}",
            *times(point["seconds_per_step"]),
            f"{statistics.median(point['cost']):.2f}",
            f"{point['proportional_cost']:.2f}",
            f"{point['examples_per_second']:,.0f}",
            f"{point['flops_per_second'] / 1e9:,.0f}",
            f"{statistics.median(point['product_fractions'][sweep['product']]):.0%}",
            *compiled(point),
        ]
        for point in sweep["points"]
    ]
    return f"{sweep['title']}\n\n{markdown(heads, lines, 1)}"


def times(seconds: Sequence[float]) -> list[str]:
    """Median, and least to most, in milliseconds."""
    return [f"{1e3 * statistics.median(seconds):.2f}", f"{1e3 * min(seconds):.2f}-{1e3 * max(seconds):.2f}"]


def compiled(program: Mapping[str, Any]) -> list[str]:
    """Seconds of compilation, and MiB; empty where not known."""
    seconds, memory = program["compile_seconds"], program["memory_bytes"]
    return ["" if seconds is None else f"{seconds:.1f}", "" if memory is None else f"{memory / 2**20:,.0f}"]
