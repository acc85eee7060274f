"""One page about one run: what it measured, what it looks like, and how to run it again."""

import base64
import json
import os
import pathlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from genlab.errors import InputError
from genlab.evaluation.numbers import format_number, format_value, number_parts, protocol, summary, words
from genlab.evaluation.page import page, text

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
    "density": "The true density where it is known, the model's, and the model's samples over its own; colour goes "
    "with the square root of the density. The integral is over the map: of a bound it is at most 1 on average, of a "
    "model that is told the class it is of the mixture over classes.",
    "completions": "Test images, the upper half that the model is told, and lower halves drawn given that.",
    "nearest_training": "The first samples, and of all the ten most alike a training image, above that image.",
    "samples_by_member": "Samples of every member that was evaluated, a row each, in their order, not selected.",
    "samples_over_time": "Samples during training, of a population the first member's; every column keeps its noise.",
    "growth_stages": "Samples at the end of each resolution.",
    "reconstructions": "Held-out examples, and what the model makes of their codes.",
    "denoising": "Held-out examples, corrupted as the evaluation asks, and what the model makes of the corrupted ones.",
    "error_by_code_size": "Reconstruction error of held-out examples over the size of the code, beside PCA's.",
    "nearest_neighbours": "Samples, each above the nearest training example.",
    "interpolations": "From one held-out example to another, in even steps between their codes.",
    "latent_manifold": "The decoder over the latent plane, at quantiles of the standard normal.",
    "latent_scatter": "Codes of held-out examples in the plane, coloured by class.",
    "code_histograms": "The distributions of the numbers of the code over held-out examples, those of most variance; "
    "where codes have a prior, a line is the standard normal.",
    "activations": "How much the units of the code are used: each on average, and each by each held-out example.",
    "filters": "What units of the first layer weigh: white for, black against, grey not at all; by their norms.",
    "kl_per_dimension": "What each latent dimension costs, and how many the model uses.",
    "points_and_density": "The true density and the model's samples, on the same axes.",
    "point_clouds": "Data and samples, on the same axes.",
    "translations": "Source images, their translations, and the way back.",
    "super_resolution": "Coarse images, ours, and the truth.",
    "codebook": "How often each code of the codebook is used by held-out examples.",
    "classifier_coverage": "Accuracy over the share of test images that is answered, the surest first.",
    "classifier_reliability": "How often answers are right, over how sure the classifier is of them.",
    "classifier_density_vae": "log p(x) of test images and of inputs from elsewhere, and the thresholds.",
    "classifier_density_ppca": "The same of one PPCA a class.",
    "classifier_answers_vae": "Test images that the model finds least likely or least sure, rejects, or gets wrong.",
    "classifier_answers_ppca": "The same of one PPCA a class.",
}

_LABELS = {
    "num_params": "parameters",
    "train_seconds": "training time",
    "split_sizes": "examples",
    "steps": "training steps",
}
_SMALL_TYPE = ("curves", "curves_population", "code_histograms", "activations", "kl_per_dimension")
_HEADLINES = 6  # numbers shown large for each question; the table has them all


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
        f"<h1>{text(recipe)} <span>on {text(dataset)}</span></h1>",
        _facts(card, config, records),
        "<h2>Measured</h2>",
        _questions(recipe, card),
        _members(card),
        _last_metrics(records),
        "<h2>Figures</h2>",
        "".join(_figure(path) for path in figures) or '<p class="soft">No figures yet.</p>',
        _written(workdir / "samples.txt"),
        "<h2>Evaluation card</h2>",
        _card_table(card),
        "<h2>Run it again</h2>",
        f"<pre>{text(command)}</pre>",
        '<p class="soft">With the same workdir this resumes an interrupted run where its last checkpoint stands, and '
        "only evaluates a finished one again. To repeat it from the first step, give another <code>--workdir</code>; "
        "for another seed, also <code>--config.seed</code>.</p>",
        _config_table(config),
    ]
    path = workdir / "report.html"
    partial = workdir / f".report.html.{os.getpid()}.partial"
    try:
        partial.write_text(page(f"{recipe} on {dataset}", body), encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _written(path: pathlib.Path) -> str:
    """The samples of a language model."""
    return f"<h2>Text</h2><pre>{text(path.read_text(encoding='utf-8'))}</pre>" if path.exists() else ""


def _facts(card: Mapping[str, Any] | None, config: Mapping[str, Any] | None, records: list[dict[str, Any]]) -> str:
    if card is None:
        last = max((record["step"] for record in records), default=0)
        total = (config or {}).get("num_steps")
        where = f"step {last:,}" + (f" of {total:,}" if isinstance(total, int) else "")
        return f'<p class="soft">Not evaluated yet: the log stands at {where}.</p>'
    facts = {key: value for key, value in card.items() if key not in (*QUESTIONS, "recipe", "dataset", "population")}
    items = []
    for key, value in facts.items():
        shown = _duration(value) if key == "train_seconds" and isinstance(value, int | float) else format_value(value)
        items.append(f"<div><dt>{text(_LABELS.get(key, words(key)))}</dt><dd>{text(shown)}</dd></div>")
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
            inner = f'<p class="soft">{text(said)}</p>'
        cells.append(f'<section class="question"><h3>{title}</h3>{inner}</section>')
    return f'<div class="questions">{"".join(cells)}</div>'


def _members(card: Mapping[str, Any] | None) -> str:
    """A row for every member of a population: in what it differs, what was measured, and its own report."""
    if not card or "population" not in card:
        return ""
    members, blocks = card["population"]["members"], [card[name] for name in QUESTIONS if card.get(name)]
    names = [name for block in blocks for name in block]
    columns = [iter(block[name]["values"]) for block in blocks for name in block]
    fields = [name for name in members[0] if name != "failure"]
    head = "".join(f"<th>{text(words(name))}</th>" for name in ("member", *fields, *names))
    rows = []
    for number, member in enumerate(members):
        if failure := member["failure"]:
            cells = f'<td colspan="{len(names)}">failed at {text(failure)}</td>'
        else:
            cells = "".join(f'<td class="n">{text(format_value(next(column)))}</td>' for column in columns)
        own = "".join(f'<td class="n">{text(format_value(member[name]))}</td>' for name in fields)
        link = str(number) if failure else f'<a href="members/{number}/report.html">{number}</a>'
        rows.append(f"<tr><th>{link}</th>{own}{cells}</tr>")
    return f'<h2>Members</h2><div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _headline(name: str, number: Any) -> str:
    value, spread, _, _, _ = number_parts(number)
    shown = format_number(number)
    if value is not None and spread is not None:
        head, _, tail = shown.partition(" ± ")
        value_html = f"{text(head)} <small>± {text(tail)}</small>"
    else:
        unit = number_parts(number)[3]
        head = shown.removesuffix(f" {unit}") if unit else shown
        value_html = text(head) + (f" <small>{text(unit)}</small>" if unit else "")
    return (
        f'<div class="number"><div>{text(words(name))}</div><div class="value">{value_html}</div>'
        f'<div class="protocol">{text(protocol(number))}</div></div>'
    )


def _last_metrics(records: list[dict[str, Any]]) -> str:
    """The last logged value of every metric, the splits side by side."""
    last: dict[str, dict[str, Any]] = {}
    splits: dict[str, int] = {}  # split -> the step it was last logged at
    for record in sorted(records, key=lambda record: record["step"]):
        splits[record["split"]] = record["step"]
        for name, value in record.items():
            if name not in ("step", "split"):
                last.setdefault(name, {})[record["split"]] = summary(value)
    if not last:
        return '<p class="soft">No metrics logged yet.</p>'
    head = "".join(f"<th>{text(split)}, step {step:,}</th>" for split, step in splits.items())
    rows = "".join(
        f"<tr><th>{text(words(name))}</th>"
        + "".join(f'<td class="n">{text(format_number(by[split]) if split in by else "")}</td>' for split in splits)
        + "</tr>"
        for name, by in last.items()
    )
    return (
        '<details><summary>Last logged metrics</summary><div class="scroll"><table>'
        f"<tr><th></th>{head}</tr>{rows}</table></div></details>"
    )


def _figure(path: pathlib.Path) -> str:
    data = path.read_bytes()
    caption = CAPTIONS.get(path.stem, words(path.stem))
    # a PNG opens with its signature and the header chunk, whose first fields are width and height
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return f'<p class="soft">{text(path.name)} is not a readable PNG file.</p>'
    width, height = struct.unpack(">II", data[16:24])
    # our figures have two pixels for each one shown; what is drawn with small type scrolls on a phone instead
    kind = ' class="plot"' if path.stem in _SMALL_TYPE and width >= 1000 else ""
    source = base64.b64encode(data).decode("ascii")
    return (
        f'<figure><div class="frame"><img{kind} width="{width // 2}" height="{height // 2}" alt="{text(caption)}" '
        f'src="data:image/png;base64,{source}"></div><figcaption>{text(caption)}</figcaption></figure>'
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
                (f"{key} / {words(name)}", format_number(number), protocol(number)) for name, number in value.items()
            ]
        elif key != "population":
            rows.append((words(key), "none" if value is None else format_value(value), ""))
    lines = "".join(
        f'<tr><th>{text(name)}</th><td>{text(value)}</td><td class="soft">{text(protocol)}</td></tr>'
        for name, value, protocol in rows
    )
    return f'<div class="scroll"><table>{lines}</table></div>'


def _config_table(config: Mapping[str, Any] | None) -> str:
    if config is None:
        return '<p class="soft">No config.json in the workdir.</p>'
    lines = "".join(
        f'<tr><th class="mono">{text(name)}</th><td class="mono">{text(json.dumps(value, ensure_ascii=False))}</td>'
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


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
