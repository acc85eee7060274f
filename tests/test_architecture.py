"""The shape of the house, enforced: which part may import which, and what stays out of the way until it is used."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# part -> the parts of ours that it may import, beside itself and `errors`; nothing else, at any depth of the code
MAY_IMPORT = {
    "errors": set(),
    "draws": set(),
    "losses": set(),
    "bijections": set(),
    "replay": set(),
    "algorithm": set(),
    "networks": {"losses", "bijections", "replay", "algorithm"},
    "models": {"losses", "bijections", "replay", "algorithm", "networks"},
    "data": set(),
    "plots": set(),
    "training": {"algorithm"},
    "evaluation": {"algorithm", "plots"},
    "sweeps": {"algorithm"},
    "configs": set(),
}
MAY_IMPORT["experiments"] = set(MAY_IMPORT)  # the one place where everything meets

# parts that are kept to a few libraries
LIBRARIES = {"losses": {"jax"} | sys.stdlib_module_names, "configs": {"ml_collections"}}

# slow to import or optional: only inside the function that uses them
HEAVY = {"sklearn", "matplotlib", "tensorflow_datasets", "mlxtend", "tensorboardX", "wandb", "torch", "keras"}
HEAVY_BUT_ALLOWED = {"plots": {"matplotlib"}}

SOURCES = sorted(path for top in ("genlab", "experiments", "configs") for path in (ROOT / top).rglob("*.py"))


def module_name(path):
    """genlab/losses/elbo.py -> genlab.losses.elbo; a package's __init__ is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module):
    """genlab.losses.elbo -> losses; genlab.algorithm -> algorithm; configs.vae -> configs; another's module -> None."""
    top, *rest = module.split(".")
    if top in ("experiments", "configs"):
        return top
    return rest[0] if top == "genlab" and rest else None


def is_ours(module):
    return module.split(".")[0] in ("genlab", "experiments", "configs")


def imported_modules(node, module, is_package=False):
    """The absolute names that one import statement may load: `from a import b` can mean the module a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module.split(".")[: None if is_package else -1]
        package = package[: len(package) - (node.level - 1)]
        base = ".".join([*package, *filter(None, [base])])
    return [f"{base}.{alias.name}" for alias in node.names]


def imports_anywhere(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports_at_import_time(node):
    """Those that run when the module is imported: not in a function, not for the type checker alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from imports_at_import_time(ast.Module(child.orelse, []))
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports_at_import_time(child)


def violations(source, module, is_package=False):
    """What a module's source does against the rules above, one line each."""
    tree, part = ast.parse(source), part_of(module)
    if part is None:  # genlab/__init__.py
        part, ours = "genlab", set()
    elif part not in MAY_IMPORT:
        return [f"{module}: part {part!r} is not in MAY_IMPORT; decide there what it may import"]
    else:
        ours = MAY_IMPORT[part] | {part, "errors", "draws"}  # the leaves that anyone may import

    found = []
    for node in imports_anywhere(tree):
        for name in imported_modules(node, module, is_package):
            where, top = f"{module}:{node.lineno}", name.split(".")[0]
            if name.endswith(".*"):
                found.append(f"{where}: import * hides where a name comes from")
            elif part == "configs" and is_ours(name):
                if not f"{name}.".startswith("configs.base."):
                    found.append(f"{where}: configs may import no {name}, only configs.base")
            elif is_ours(name):
                # `import genlab` and `from genlab import x` are judged by x, or refused where there is none
                if part_of(name) not in ours:
                    found.append(f"{where}: {part} may not import {name}")
            elif top not in LIBRARIES.get(part, {top}):
                found.append(f"{where}: {part} may not import {top}")
    for node in imports_at_import_time(tree):
        for name in imported_modules(node, module, is_package):
            top = name.split(".")[0]
            if top in HEAVY - HEAVY_BUT_ALLOWED.get(part, set()):
                found.append(f"{module}:{node.lineno}: import {top} inside the function that uses it")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_imports_run_one_way(path):
    assert violations(path.read_text(), module_name(path), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("genlab.losses.elbo", "import flax.linen as nn", "losses may not import flax"),
        ("genlab.losses.elbo", "import optax", "losses may not import optax"),
        ("genlab.losses.elbo", "from genlab.networks.dense import MLP", "losses may not import genlab.networks"),
        ("genlab.losses.elbo", "from genlab.algorithm import State", "losses may not import genlab.algorithm"),
        ("genlab.losses.elbo", "from ..networks import dense", "losses may not import genlab.networks.dense"),
        ("genlab.losses.elbo", "from .. import models", "losses may not import genlab.models"),
        ("genlab.losses.elbo", "import genlab", "losses may not import genlab"),
        ("genlab.algorithm", "from genlab.losses import elbo", "algorithm may not import genlab.losses"),
        ("genlab.algorithm", "from .training import loop", "algorithm may not import genlab.training"),
        ("genlab.networks.dense", "from genlab import models", "networks may not import genlab.models"),
        ("genlab.models.vae", "def f():\n    import genlab.training.loop", "models may not import genlab.training"),
        ("genlab.models.vae", "from genlab.data.dataset import Dataset", "models may not import genlab.data"),
        ("genlab.models.vae", "from experiments import vae", "models may not import experiments"),
        ("genlab.training.loop", "import genlab.models.vae", "training may not import genlab.models"),
        ("genlab.training.loop", "from configs import base", "training may not import configs"),
        ("genlab.data.feed", "from genlab.algorithm import Batch", "data may not import genlab.algorithm"),
        ("genlab.plots.curves", "import genlab.evaluation", "plots may not import genlab.evaluation"),
        ("genlab.errors", "from genlab.data import feed", "errors may not import genlab.data"),
        ("configs.vae", "import configs.gan", "no configs.gan, only configs.base"),
        ("configs.vae", "from configs import gan", "no configs.gan, only configs.base"),
        ("configs.vae", "from genlab.errors import InputError", "no genlab.errors.InputError, only configs.base"),
        ("configs.vae", "import jax", "configs may not import jax"),
        ("configs.vae", "import os", "configs may not import os"),
        ("experiments.vae", "from genlab.losses.elbo import *", "import *"),
        ("experiments.vae", "import sklearn.decomposition", "import sklearn inside"),
        (
            "genlab.training.writers",
            "try:\n    import wandb\nexcept ImportError:\n    wandb = None",
            "import wandb inside",
        ),
        ("genlab.evaluation.card", "class A:\n    from matplotlib import pyplot", "import matplotlib inside"),
        ("genlab.plots.curves", "import sklearn", "import sklearn inside"),
        ("genlab.shiny.thing", "import jax", "'shiny' is not in MAY_IMPORT"),
    ],
)
def test_the_checker_finds(module, source, complaint):
    (found,) = violations(source, module)
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("genlab.losses.elbo", "import functools\nimport jax.numpy as jnp\nfrom genlab.losses.event import sum_event"),
        (
            "genlab.losses.elbo",
            "from genlab.errors import InputError\nfrom . import event\nfrom .event import sum_event",
        ),
        (
            "genlab.models.vae",
            "import flax\nfrom genlab.networks.dense import MLP\nfrom genlab import algorithm, losses",
        ),
        ("genlab.evaluation.card", "def f():\n    from sklearn.neighbors import KNeighborsClassifier"),
        ("genlab.evaluation.card", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import matplotlib"),
        ("genlab.evaluation.card", "from genlab.plots import curves"),
        ("genlab.plots.curves", "import matplotlib\nfrom genlab.errors import InputError"),
        ("configs.vae", "import ml_collections\nfrom configs import base\nfrom configs.base import get_config"),
        (
            "experiments.vae",
            "from experiments import run\nfrom genlab.data.dataset import Dataset\nimport genlab.plots",
        ),
    ],
)
def test_the_checker_lets_pass(module, source):
    assert violations(source, module) == []


def test_the_checker_resolves_relative_imports_in_a_package():
    assert violations("from . import event", "genlab.losses", is_package=True) == []
    assert violations("from .. import models", "genlab.losses", is_package=True) != []


def test_there_is_something_to_check():
    assert {"genlab.algorithm", "genlab.losses.elbo", "configs.base"} <= set(map(module_name, SOURCES))


def test_there_is_no_utils():
    vague = {"util", "utils", "helper", "helpers", "misc", "common"}
    assert [str(path) for path in SOURCES if vague & {path.stem, path.parent.name}] == []


def committed_files():
    """What git tracks, or would if all were added; skips where this is not a checkout."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [path for path in (ROOT / name for name in listing.stdout.split("\0") if name) if path.is_file()]


# an absolute path into the machine it was written on; a URL's or a relative path's folder of that name is none
ABSOLUTE_PATH = re.compile(r"(?<![\w./~}$-])/(work|root)/")


def test_no_file_names_a_path_of_the_machine_it_was_written_on():
    found = []
    for path in committed_files():
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1):
            if ABSOLUTE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("cd {}work/main", True),
        ("DATA = '{}root/tensorflow_datasets'", True),
        ("open({}work/x)", True),
        ("https://example.org{}work/x", False),
        ("frame{}work/x", False),
        ("~{}work/x", False),
        ("$HOME{}root/x", False),
        ("..{}work/x", False),
    ],
)
def test_the_path_checker_tells_absolute_paths(line, named):
    assert bool(ABSOLUTE_PATH.search(line.format("/"))) == named


IMPORT_EACH = """
import importlib, sys
from absl import flags

heavy = set(sys.argv[1].split(","))
for module in sys.argv[2:]:
    known, loaded = set(flags.FLAGS), set(sys.modules)
    importlib.import_module(module)
    for name in sorted(heavy & (set(sys.modules) - loaded)):
        print(f"{module} loads {name}")
    for name in set(flags.FLAGS) - known:  # entry points define the same flags, which one process may do once
        delattr(flags.FLAGS, name)
"""


def test_models_and_experiments_start_without_the_heavy_libraries():
    """In a fresh interpreter, for an entry point should answer --help, and refuse a bad config, at once."""
    modules = [name for name in map(module_name, SOURCES) if name.startswith(("genlab.models.", "experiments."))]
    heavy = ",".join(sorted(HEAVY))
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, heavy, *modules], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == []
