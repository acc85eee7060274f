"""Real command lines in real processes."""

import json
import os
import subprocess
import sys

import pytest
from command_lines import DRIVER, ROOT, Done


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """One device, nobody's caches but ours, and the compiled programs of earlier tests."""
    return dict(os.environ) | {
        "GENLAB_CACHE": str(tmp_path_factory.mktemp("cache")),
        "TFDS_DATA_DIR": str(tmp_path_factory.mktemp("catalogue")),
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "XLA_FLAGS": "--xla_backend_optimization_level=1",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="session")
def command(environment):
    """(arguments) -> Done, of python -m experiments.vae."""

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "experiments.vae", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def forked(environment, tmp_path_factory):
    """As `command`, without the seconds that a process takes to import; for the many ways to go wrong."""
    out, err = (tmp_path_factory.mktemp("output") / name for name in ("out", "err"))
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        assert driver.stdin is not None and driver.stdout is not None
        to, come = driver.stdin, driver.stdout

        def run(*arguments):
            to.write(json.dumps([arguments, str(out), str(err)]) + "\n")
            to.flush()
            code = int(come.readline())
            return Done(code, out.read_text(), err.read_text())

        yield run
        to.close()
        driver.wait(60)
