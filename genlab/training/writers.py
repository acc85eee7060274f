"""Where metrics go: a JSON-lines file always, TensorBoard and Weights & Biases when asked.

A writer is a function (step, split, metrics) -> None with a `close`. A metric is a number, None where it is not finite,
or of a population a list of them.
"""

import importlib.util
import json
import os
import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from genlab.errors import InputError

Metrics = Mapping[str, float | list[float | None] | None]


class Writer(NamedTuple):
    """Somewhere metrics go; `write` takes (step, split, metrics) and leaves nothing in a buffer."""

    write: Callable[[int, str, Metrics], None]
    close: Callable[[], None]


def jsonl_writer(path: pathlib.Path, resume_step: int) -> Writer:
    """Appends one JSON object a call: step, split, then the metrics.

    Lines after `resume_step`, which a killed run wrote after its last checkpoint, are dropped first: they will
    be written again. So is a last line that was cut in the middle.
    """
    kept = "".join(json.dumps(record) + "\n" for record in read_jsonl(path) if record["step"] <= resume_step)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(kept)
    os.replace(temporary, path)
    file = path.open("a")

    def write(step: int, split: str, metrics: Metrics) -> None:
        file.write(json.dumps({"step": step, "split": split, **metrics}, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())  # before the checkpoint of this step, so that no checkpoint is ahead of its log

    return Writer(write, file.close)


def read_jsonl(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a metrics file, up to the first line that is not whole."""
    records = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return records


def scalars(split: str, metrics: Metrics) -> dict[str, float]:
    """split/metric -> number, of a population split/metric/member -> number; without those that are None."""
    numbers: dict[str, float | None] = {}
    for name, value in metrics.items():
        if isinstance(value, list):
            numbers |= {f"{split}/{name}/{member}": number for member, number in enumerate(value)}
        else:
            numbers[f"{split}/{name}"] = value
    return {tag: number for tag, number in numbers.items() if number is not None}


def tensorboard_writer(directory: pathlib.Path, resume_step: int) -> Writer:
    """TensorBoard events, tags as in `scalars`; events after `resume_step` are purged."""
    import tensorboardX

    # files are named by the second: without a suffix a run resumed at once would overwrite its first events
    events = tensorboardX.SummaryWriter(
        str(directory), purge_step=resume_step + 1, filename_suffix=f".from_{resume_step}"
    )

    def write(step: int, split: str, metrics: Metrics) -> None:
        for tag, number in scalars(split, metrics).items():
            events.add_scalar(tag, number, step)
        events.flush()

    return Writer(write, events.close)


def wandb_writer(directory: pathlib.Path, run_name: str, config: Mapping[str, Any]) -> Writer:
    """A Weights & Biases run, whose id is the workdir's: a resumed run goes on in it. WANDB_MODE=offline works."""
    import wandb

    id_file = directory / "wandb_id"
    if not id_file.exists():
        id_file.write_text(uuid.uuid4().hex[:12])
    run = wandb.init(
        project="genlab", name=run_name, id=id_file.read_text(), resume="allow", dir=str(directory), config=dict(config)
    )

    def write(step: int, split: str, metrics: Metrics) -> None:
        run.log(scalars(split, metrics) | {"step": step})

    return Writer(write, run.finish)


PACKAGES = {"jsonl": None, "tensorboard": "tensorboardX", "wandb": "wandb"}


def check_writers(names: Sequence[str]) -> None:
    """Checks that the writers a config names can be opened.

    Raises:
        InputError: on an unknown name or a missing package.
    """
    for name in names:
        if name not in PACKAGES:
            raise InputError(f"unknown writer {name!r}; known: {', '.join(PACKAGES)}")
        package = PACKAGES[name]
        if package and importlib.util.find_spec(package) is None:
            raise InputError(f"writers has {name!r} but {package} is missing; pip install -e '.[{name}]'")


def open_writers(
    names: Sequence[str], workdir: pathlib.Path, config: Mapping[str, Any], resume_step: int
) -> list[Writer]:
    """The writers a config names, "jsonl" always among them.

    Raises:
        InputError: see `check_writers`.
    """
    check_writers(names)
    makers = {
        "jsonl": lambda: jsonl_writer(workdir / "metrics.jsonl", resume_step),
        "tensorboard": lambda: tensorboard_writer(workdir / "tensorboard", resume_step),
        "wandb": lambda: wandb_writer(workdir, workdir.name, config),
    }
    return [makers[name]() for name in dict.fromkeys(("jsonl", *names))]
