"""Numbers of a card, in words: value, bound, uncertainty, unit, and how they were measured."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

SHOWN_ELSEWHERE = ("value", "standard_error", "sd", "unit", "bound", "values")  # what is not protocol


def format_number(number: Any) -> str:
    """A number of the card with its bound, its uncertainty and its unit, as plain text.

    Two digits of the uncertainty are kept and the value is rounded to them; without one, four digits of the value.

        {"value": 4.1234, "standard_error": 0.31, "unit": "nats"}  ->  "4.12 ± 0.31 s.e. nats"
        {"value": 97.3, "bound": "upper"}                          ->  "≤ 97.3"
    """
    value, spread, kind, unit, sign = number_parts(number)
    decimals = None
    if spread and math.isfinite(spread) and isinstance(value, int | float) and math.isfinite(value):
        decimals = max(0, 1 - math.floor(math.log10(abs(spread))))
        decimals = decimals if decimals < 10 else None  # beyond, powers of ten are read more easily
    text = sign + format_value(value, decimals)
    if spread is not None:
        text += f" ± {format_value(spread, decimals)} {kind}"
    return text + (f" {unit}" if unit else "")


def format_reference(number: Any) -> str:
    """What the number would be of real images, of a perfect sampler, or is expected to be, in brackets; or nothing."""
    for field in ("real_images", "test_text", "perfect_sampler", "expected"):
        if isinstance(number, Mapping) and number.get(field) is not None:
            return f"({words(field)} {format_value(number[field])})"
    return ""


def number_parts(number: Any) -> tuple[Any, float | None, str, str, str]:
    """Value, spread or None, which spread, unit, sign of the bound with a space."""
    number = number if isinstance(number, Mapping) else {"value": number}
    spread, kind = None, ""
    for field, short in (("standard_error", "s.e."), ("sd", "s.d.")):
        if spread is None and number.get(field) is not None:
            spread, kind = float(number[field]), short
    sign = {"upper": "≤ ", "lower": "≥ "}.get(number.get("bound") or "", "")
    return number.get("value"), spread, kind, str(number.get("unit") or ""), sign


def format_value(value: Any, decimals: int | None = None) -> str:
    """A value of any kind as text; of a number so many decimals, or four digits."""
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and decimals is None:
        return f"{value:,}".replace("-", "−")
    if isinstance(value, int | float):
        if not math.isfinite(value):
            return str(value).replace("-", "−")  # NaN and infinity are said, not hidden
        if decimals is not None:
            return f"{value:,.{decimals}f}".replace("-", "−")
        if value and not 1e-3 <= abs(value) < 1e6:
            return f"{value:.3e}".replace("-", "−")
        digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
        text = f"{value:,.{digits}f}"
        return (text.rstrip("0").rstrip(".") if digits else text).replace("-", "−")
    if isinstance(value, Mapping):
        return " · ".join(f"{words(key)} {format_value(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(format_value(item) for item in value)
    return str(value)


def protocol(number: Any) -> str:
    """How a number was measured: split, n, estimator (k), extractor, and whatever else stands beside it."""
    if not isinstance(number, Mapping):
        return ""
    rest = {k: v for k, v in number.items() if k not in SHOWN_ELSEWHERE}
    rest = {k: v for k, v in rest.items() if v is not None}
    parts = [f"{format_value(rest.pop('split'))} split"] if "split" in rest else []
    for field in ("n", "estimator", "k", "extractor", *rest):
        if field in rest:
            value = format_value(rest.pop(field))
            parts.append(f"{field} = {value}" if field in ("n", "k") else f"{words(field)} {value}")
    return " · ".join(parts)


def summary(value: Any) -> Any:
    """A population's list of values as the mean and standard deviation of those that are finite; else as it is."""
    if not isinstance(value, list):
        return value
    finite = [v for v in value if isinstance(v, int | float) and math.isfinite(v)]
    if not finite:
        return None
    return {"value": statistics.fmean(finite), "sd": statistics.stdev(finite) if len(finite) > 1 else None}


def words(name: str) -> str:
    """A field's name as it is read."""
    return name.replace("_", " ")
