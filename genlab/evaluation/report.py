"""One page about one run: what it measured, what it looks like, and how to run it again."""

import base64
import html
import json
import math
import os
import pathlib
import statistics
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from genlab.errors import InputError

QUESTIONS = {
    "generation": ("Generation", "generates nothing"),
    "representation": ("Representation", "has no codes, or the data has no labels to probe them with"),
    "density": ("Density", "has no density"),
}

# what a figure of this name has to show; also the order on the page
CAPTIONS = {
    "curves": "Metrics against training steps.",
    "curves_population": "Metrics of the population against training steps: mean and standard deviation over members.",
    "samples": "Samples of the final model, not selected.",
    "samples_by_class": "Samples of the final model, one class a row, not selected.",
    "samples_over_time": "Samples during training; every column keeps its noise.",
    "growth_stages": "Samples at the end of each resolution.",
    "reconstructions": "Held-out examples, each above its reconstruction.",
    "nearest_neighbours": "Samples, each above the nearest training example.",
    "interpolations": "From one held-out example to another, in even steps between their codes.",
    "latent_manifold": "The decoder over the latent plane, at quantiles of the standard normal.",
    "latent_scatter": "Codes of held-out examples in the plane, coloured by class.",
    "code_histograms": "The distribution of each code over held-out examples, under the standard normal.",
    "kl_per_dimension": "What each latent dimension costs, and how many the model uses.",
    "points_and_density": "The true density and the model's samples, on the same axes.",
    "point_clouds": "Data and samples, on the same axes.",
    "translations": "Source images, their translations, and the way back.",
    "super_resolution": "Coarse images, ours, and the truth.",
}

_LABELS = {
    "num_params": "parameters",
    "train_seconds": "training time",
    "split_sizes": "examples",
    "steps": "training steps",
}
_SMALL_TYPE = ("curves", "curves_population", "code_histograms", "kl_per_dimension")
_HEADLINES = 4  # numbers shown large for each question; the table has them all

_CSS = """
:root{color-scheme:light dark;--ink:#1c1f23;--soft:#646b73;--line:#e1e4e8;--page:#fff;--tint:#f5f6f8;--accent:#3b6ea5}
@media(prefers-color-scheme:dark){:root{--ink:#e4e6e9;--soft:#9aa2ab;--line:#33383f;--page:#16181b;--tint:#1f2226;
--accent:#8ab4e0}}
*{box-sizing:border-box}
body{margin:0 auto;padding:3rem 1.25rem 4rem;max-width:54rem;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
h1{font-size:1.9rem;line-height:1.2;font-weight:650;letter-spacing:-.015em;margin:0}
h1 span{color:var(--soft);font-weight:400}
h2{font-size:1.05rem;font-weight:650;margin:3rem 0 1rem;padding-bottom:.35rem;border-bottom:1px solid var(--line)}
p{margin:.6rem 0}
.soft,.protocol,figcaption,dt{color:var(--soft);font-size:.875rem}
.facts{display:flex;flex-wrap:wrap;gap:.75rem 1.75rem;margin:1.25rem 0 0}
.facts dd{margin:0;font-size:.94rem;font-variant-numeric:tabular-nums}
.questions{display:grid;grid-template-columns:repeat(auto-fit,minmax(14.5rem,1fr));gap:1rem}
.question{background:var(--tint);border-radius:8px;padding:1rem 1.15rem}
.question h3{margin:0 0 .5rem;font-size:.8rem;font-weight:650;letter-spacing:.06em;text-transform:uppercase;
color:var(--accent)}
.number+.number{margin-top:.9rem}
.value{font-size:1.35rem;line-height:1.25;font-weight:600;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.value small{font-size:.82rem;font-weight:400;letter-spacing:0;color:var(--soft)}
.protocol{line-height:1.4;font-size:.8rem}
figure{margin:0 0 2.25rem}
.frame{background:#fff;border:1px solid var(--line);border-radius:8px;padding:.75rem;overflow-x:auto}
.frame img{display:block;max-width:100%;height:auto;margin:0 auto}
figcaption{margin-top:.55rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.875rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .9rem .4rem 0;border-bottom:1px solid var(--line)}
th{font-weight:500;color:var(--soft)}
td.n{white-space:nowrap;font-variant-numeric:tabular-nums}
pre{background:var(--tint);border-radius:8px;padding:.9rem 1.1rem;margin:.6rem 0;white-space:pre-wrap;
overflow-wrap:anywhere}
pre,code,.mono{font:.84rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
details{margin-top:1rem}
summary{cursor:pointer;color:var(--accent);padding:.3rem 0}
@media(max-width:36rem){body{padding-top:1.75rem}.frame{padding:.4rem}.frame img.plot{max-width:none;width:34rem}}
@media(prefers-color-scheme:dark){.frame{background:#eceef0;border-color:transparent}
.frame img{mix-blend-mode:multiply}}
@media print{:root{--tint:#fff;--line:#ccc}body{max-width:none;padding:0;font-size:11pt}
figure,.question,tr{break-inside:avoid}h2{break-after:avoid}.question{border:1px solid var(--line)}
details::details-content{content-visibility:visible;block-size:auto}}
"""


def write_report(workdir: str | os.PathLike[str], command: str) -> pathlib.Path:
    """Writes report.html: one page that needs no other file, no script and no network.

    Whatever of config.json, metrics.jsonl, card.json and figures/*.png the run has not left yet is said to be
    missing; the page can be written while the run goes on.

    Args:
        workdir: the run's folder.
        command: the command line that made the run.

    Returns:
        The path of the page, replaced in one step.

    Raises:
        InputError: no such folder, or a file in it that cannot be read as what it is.
    """
    workdir = pathlib.Path(workdir)
    if not workdir.is_dir():
        raise InputError(f"no run to report on: {workdir} is not a folder")
    card = _read_json(workdir / "card.json")
    config = _read_json(workdir / "config.json")
    records = _read_records(workdir / "metrics.jsonl")
    figures = sorted((workdir / "figures").glob("*.png"), key=_figure_order)

    recipe = str((card or {}).get("recipe") or workdir.resolve().name)
    dataset = (card or {}).get("dataset") or ((config or {}).get("data") or {}).get("name") or "unknown data"
    body = [
        f"<h1>{_text(recipe)} <span>on {_text(dataset)}</span></h1>",
        _facts(card, config, records),
        "<h2>Measured</h2>",
        _questions(recipe, card),
        _last_metrics(records),
        "<h2>Figures</h2>",
        "".join(_figure(path) for path in figures) or '<p class="soft">No figures yet.</p>',
        "<h2>Evaluation card</h2>",
        _card_table(card),
        "<h2>Run it again</h2>",
        f"<pre>{_text(command)}</pre>",
        '<p class="soft">With the same workdir this resumes an interrupted run where its last checkpoint stands, and '
        "only evaluates a finished one again. To repeat it from the first step, give another <code>--workdir</code>; "
        "for another seed, also <code>--config.seed</code>.</p>",
        _config_table(config),
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # nothing is loaded from anywhere, whatever a name or a caption holds
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{_text(recipe)} on {_text(dataset)}</title><style>{_CSS}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )
    path = workdir / "report.html"
    partial = workdir / f".report.html.{os.getpid()}.partial"
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def format_number(number: Any) -> str:
    """A number of the card with its bound, its uncertainty and its unit, as plain text.

    Two digits of the uncertainty are kept and the value is rounded to them; without one, four digits of the value.

        {"value": 4.1234, "standard_error": 0.31, "unit": "nats"}  ->  "4.12 ± 0.31 s.e. nats"
        {"value": 97.3, "bound": "upper"}                          ->  "≤ 97.3"
    """
    value, spread, kind, unit, sign = _parts(number)
    decimals = None
    if spread and math.isfinite(spread) and isinstance(value, int | float) and math.isfinite(value):
        decimals = max(0, 1 - math.floor(math.log10(abs(spread))))
    text = sign + _format(value, decimals)
    if spread is not None:
        text += f" ± {_format(spread, decimals)} {kind}"
    return text + (f" {unit}" if unit else "")


def _parts(number: Any) -> tuple[Any, float | None, str, str, str]:
    """Value, spread or None, which spread, unit, sign of the bound with a space."""
    number = number if isinstance(number, Mapping) else {"value": number}
    spread, kind = None, ""
    for field, short in (("standard_error", "s.e."), ("sd", "s.d.")):
        if spread is None and number.get(field) is not None:
            spread, kind = float(number[field]), short
    sign = {"upper": "≤ ", "lower": "≥ "}.get(number.get("bound") or "", "")
    return number.get("value"), spread, kind, str(number.get("unit") or ""), sign


def _format(value: Any, decimals: int | None = None) -> str:
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
        return " · ".join(f"{_words(key)} {_format(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_format(item) for item in value)
    return str(value)


def _protocol(number: Any) -> str:
    """How a number was measured: split, n, estimator (k), extractor, and whatever else stands beside it."""
    if not isinstance(number, Mapping):
        return ""
    rest = {k: v for k, v in number.items() if k not in ("value", "standard_error", "sd", "unit", "bound")}
    rest = {k: v for k, v in rest.items() if v is not None}
    parts = [f"{_format(rest.pop('split'))} split"] if "split" in rest else []
    for field in ("n", "estimator", "k", "extractor", *rest):
        if field in rest:
            value = _format(rest.pop(field))
            parts.append(f"{field} = {value}" if field in ("n", "k") else f"{_words(field)} {value}")
    return " · ".join(parts)


def _facts(card: Mapping[str, Any] | None, config: Mapping[str, Any] | None, records: list[dict[str, Any]]) -> str:
    if card is None:
        last = max((record["step"] for record in records), default=0)
        total = (config or {}).get("num_steps")
        where = f"step {last:,}" + (f" of {total:,}" if isinstance(total, int) else "")
        return f'<p class="soft">Not evaluated yet: the log stands at {where}.</p>'
    facts = {key: value for key, value in card.items() if key not in (*QUESTIONS, "recipe", "dataset")}
    items = []
    for key, value in facts.items():
        text = _duration(value) if key == "train_seconds" and isinstance(value, int | float) else _format(value)
        items.append(f"<div><dt>{_text(_LABELS.get(key, _words(key)))}</dt><dd>{_text(text)}</dd></div>")
    return f'<dl class="facts">{"".join(items)}</dl>'


def _questions(recipe: str, card: Mapping[str, Any] | None) -> str:
    if card is None:
        return '<p class="soft">No evaluation card yet: it is written when training ends.</p>'
    cells = []
    for name, (title, lack) in QUESTIONS.items():
        block = card.get(name)
        if block:
            inner = "".join(_headline(key, number) for key, number in list(block.items())[:_HEADLINES])
            if len(block) > _HEADLINES:
                inner += f'<p class="protocol">and {len(block) - _HEADLINES} more in the card below</p>'
        else:
            said = f"{recipe} {lack}." if name in card and block is None else "Not measured."
            inner = f'<p class="soft">{_text(said)}</p>'
        cells.append(f'<section class="question"><h3>{title}</h3>{inner}</section>')
    return f'<div class="questions">{"".join(cells)}</div>'


def _headline(name: str, number: Any) -> str:
    value, spread, _, _, _ = _parts(number)
    text = format_number(number)
    if value is not None and spread is not None:
        head, _, tail = text.partition(" ± ")
        value_html = f"{_text(head)} <small>± {_text(tail)}</small>"
    else:
        unit = _parts(number)[3]
        head = text.removesuffix(f" {unit}") if unit else text
        value_html = _text(head) + (f" <small>{_text(unit)}</small>" if unit else "")
    return (
        f'<div class="number"><div>{_text(_words(name))}</div><div class="value">{value_html}</div>'
        f'<div class="protocol">{_text(_protocol(number))}</div></div>'
    )


def _last_metrics(records: list[dict[str, Any]]) -> str:
    """The last logged value of every metric, the splits side by side."""
    last: dict[str, dict[str, Any]] = {}
    splits: dict[str, int] = {}  # split -> the step it was last logged at
    for record in sorted(records, key=lambda record: record["step"]):
        splits[record["split"]] = record["step"]
        for name, value in record.items():
            if name not in ("step", "split"):
                last.setdefault(name, {})[record["split"]] = _over_members(value)
    if not last:
        return '<p class="soft">No metrics logged yet.</p>'
    head = "".join(f"<th>{_text(split)}, step {step:,}</th>" for split, step in splits.items())
    rows = "".join(
        f"<tr><th>{_text(_words(name))}</th>"
        + "".join(f'<td class="n">{_text(format_number(by[split]) if split in by else "")}</td>' for split in splits)
        + "</tr>"
        for name, by in last.items()
    )
    return (
        '<details><summary>Last logged metrics</summary><div class="scroll"><table>'
        f"<tr><th></th>{head}</tr>{rows}</table></div></details>"
    )


def _over_members(value: Any) -> Any:
    """A population's list of values as their mean and standard deviation; as it is where one is not finite."""
    if (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(v, int | float) and math.isfinite(v) for v in value)
    ):
        return {"value": statistics.fmean(value), "sd": statistics.stdev(value)}
    return value


def _figure(path: pathlib.Path) -> str:
    data = path.read_bytes()
    caption = CAPTIONS.get(path.stem, _words(path.stem))
    # a PNG opens with its signature and the header chunk, whose first fields are width and height
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return f'<p class="soft">{_text(path.name)} is not a readable PNG file.</p>'
    width, height = struct.unpack(">II", data[16:24])
    # our figures have two pixels for each one shown; what is drawn with small type scrolls on a phone instead
    kind = ' class="plot"' if path.stem in _SMALL_TYPE and width >= 1000 else ""
    source = base64.b64encode(data).decode("ascii")
    return (
        f'<figure><div class="frame"><img{kind} width="{width // 2}" height="{height // 2}" alt="{_text(caption)}" '
        f'src="data:image/png;base64,{source}"></div><figcaption>{_text(caption)}</figcaption></figure>'
    )


def _figure_order(path: pathlib.Path) -> tuple[int, str]:
    names = list(CAPTIONS)
    return (names.index(path.stem) if path.stem in CAPTIONS else len(names), path.stem)


def _card_table(card: Mapping[str, Any] | None) -> str:
    if card is None:
        return '<p class="soft">None yet.</p>'
    rows = []
    for key, value in card.items():
        if key in QUESTIONS and isinstance(value, Mapping):
            rows += [
                (f"{key} / {_words(name)}", format_number(number), _protocol(number)) for name, number in value.items()
            ]
        else:
            rows.append((_words(key), "none" if value is None else _format(value), ""))
    lines = "".join(
        f'<tr><th>{_text(name)}</th><td>{_text(value)}</td><td class="soft">{_text(protocol)}</td></tr>'
        for name, value, protocol in rows
    )
    return f'<div class="scroll"><table>{lines}</table></div>'


def _config_table(config: Mapping[str, Any] | None) -> str:
    if config is None:
        return '<p class="soft">No config.json in the workdir.</p>'
    lines = "".join(
        f'<tr><th class="mono">{_text(name)}</th><td class="mono">{_text(json.dumps(value, ensure_ascii=False))}</td>'
        "</tr>"
        for name, value in _flat(config)
    )
    return f'<details><summary>The resolved config</summary><div class="scroll"><table>{lines}</table></div></details>'


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_json(path: pathlib.Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path} holds a {type(tree).__name__}, not an object of fields")
    return tree


def _read_records(path: pathlib.Path) -> list[dict[str, Any]]:
    """The log events; a last line that a killed run left unfinished is passed over."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            record["step"], record["split"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise InputError(f"{path}, line {number}: not an object with a step and a split") from None
        records.append(record)
    return records


def _words(name: str) -> str:
    return name.replace("_", " ")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
