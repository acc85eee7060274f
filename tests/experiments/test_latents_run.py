"""The tool for latent spaces on runs of command lines: what it leaves of images and of points, and what it refuses."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from command_lines import ROOT, Done, tiny
from PIL import Image, ImageSequence

FIGURES = ["attributes.png", "interpolations_linear.png", "interpolations_spherical.png", "manifold.png",
           "traversals.png"]  # fmt: skip

# as command_lines.DRIVER: imports once, then forks for every command line, of a model that may lack an ability
DRIVER = """
import json, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside the threads of a linear algebra library
import experiments.latents as tool

def without(ability, opened=tool.open_run):
    def open_run(directory):
        run = opened(directory)
        return run._replace(algorithm=run.algorithm._replace(**{ability: None}))
    return open_run

for line in sys.stdin:
    arguments, lacks, out, err = json.loads(line)
    child = os.fork()
    if not child:
        for number, name in ((1, out), (2, err)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        sys.argv = ["experiments/latents.py", *arguments]
        if lacks:
            tool.open_run = without(lacks)
        tool.launch_tool("experiments.latents", tool.main, tool.__doc__)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def latents(environment, tmp_path_factory):
    """(arguments, lacks=ability) -> Done, of python -m experiments.latents."""
    out, err = (tmp_path_factory.mktemp("output") / name for name in ("out", "err"))
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    ) as driver:  # fmt: skip
        assert driver.stdin is not None and driver.stdout is not None
        to, come = driver.stdin, driver.stdout

        def run(*arguments, lacks=None):
            to.write(json.dumps([arguments, lacks, str(out), str(err)]) + "\n")
            to.flush()
            code = int(come.readline())
            return Done(code, out.read_text(), err.read_text())

        yield run
        to.close()
        driver.wait(60)


@pytest.fixture(scope="module")
def digits(forked, tmp_path_factory):
    """A trained model of images with a code of two numbers."""
    directory = tmp_path_factory.mktemp("runs") / "digits"
    done = forked(*tiny(directory, model__hidden=32))
    assert done.code == 0, done.err
    return directory


def test_images_are_walked_through_drawn_and_measured(latents, digits):
    done = latents(f"--workdir={digits}", "--num_pairs=40", "--classifier_steps=100")
    assert done.code == 0, done.err
    found = digits / "latents"
    assert sorted(path.name for path in found.iterdir()) == sorted([*FIGURES, "interpolation.gif", "latents.json"])
    for name in FIGURES:
        with Image.open(found / name) as picture:
            assert np.ptp(np.asarray(picture.convert("L"))) > 200  # something black and something white
    with Image.open(found / "interpolation.gif") as picture:
        assert len(list(ImageSequence.Iterator(picture))) > 10
    block = json.loads((found / "latents.json").read_text())
    diagnostics, midpoints = block["diagnostics"], block["midpoints"]
    card = json.loads((digits / "card.json").read_text())
    bound = diagnostics["rate"]["value"] + diagnostics["distortion"]["value"]
    negative_elbo = card["density"]["negative_elbo"]
    assert bound == pytest.approx(negative_elbo["value"], abs=6 * negative_elbo["standard_error"])
    assert diagnostics["active_units"]["of"] == 2
    assert block["classifier"]["classifier_accuracy"]["value"] > 0.5
    assert set(block["euclidean_midpoints"]) == set(midpoints) and block["euclidean_midpoints"] != midpoints
    for path in ("linear", "spherical"):
        ratio = midpoints[f"{path}_midpoint_distance"]["value"] / midpoints["pixel_midpoint_distance"]["value"]
        assert midpoints[f"{path}_reduction"]["value"] == pytest.approx(1 - ratio)
        assert midpoints[f"{path}_reduction"]["n"] == 40
    assert str(found) in done.out
    for name in [*diagnostics, *midpoints]:
        assert name in done.out
    assert all(math.isfinite(number["value"]) for number in [*diagnostics.values(), *midpoints.values()])


def test_points_are_measured_and_not_drawn(latents, forked, tmp_path):
    done = forked(
        *tiny(tmp_path, data__name="moons", data__binarization="none", model__likelihood="learned_gaussian",
              model__hidden=16,
              evaluation__num_importance_samples=1, evaluation__importance_chunk=1)
    )  # fmt: skip
    assert done.code == 0, done.err
    done = latents(f"--workdir={tmp_path}")
    assert done.code == 0, done.err
    assert [path.name for path in (tmp_path / "latents").iterdir()] == ["latents.json"]
    assert set(json.loads((tmp_path / "latents" / "latents.json").read_text())) == {"seed", "diagnostics"}


def test_a_model_that_lacks_an_ability_is_refused(latents, digits):
    done = latents(f"--workdir={digits}", lacks="decode")
    assert done.code == 2
    refusal = (
        "holds a model without decode: its codes decode only with a label; there is no latent space to walk through"
    )
    assert done.err == f"error: {digits} {refusal}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["runs/vae"], "give the run as --workdir=RUN, not 'runs/vae'"),
        (["--workdir=nowhere"], "no run at nowhere"),
        (["--workdir=nowhere", "--num_pairs=0"], "num_pairs"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(latents, arguments, complaint):
    done = latents(*arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1 and complaint in done.err
