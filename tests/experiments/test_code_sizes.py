"""A run for each size of the code, and the errors of all of them side by side."""

import json
import pathlib

import pytest

from configs import autoencoder as recipes
from configs import base
from experiments import code_sizes
from experiments.launch import Launch
from genlab.errors import InputError


def launch_of(config, directory):
    return Launch(config.lock(), "autoencoder", pathlib.Path(directory), "python -m experiments.code_sizes")


def test_every_size_is_a_run_of_its_own_and_its_errors_are_gathered(tmp_path, monkeypatch, capsys):
    ran = []

    def run(arguments, build):
        ran.append((arguments.config.model.code_dim, arguments.workdir.name))
        size = arguments.config.model.code_dim
        block = {"reconstruction_mse": {"value": 0.1 / size, "code_size": size}, "pca_mse": {"value": 0.2 / size}}
        arguments.workdir.mkdir(parents=True)
        (arguments.workdir / "card.json").write_text(json.dumps({"representation": block}))

    monkeypatch.setattr(code_sizes, "run", run)
    monkeypatch.setattr(code_sizes, "CODE_DIMS", type("Flag", (), {"value": ["8", "2", "8"]}))
    config = recipes.get_config()
    code_sizes.main(launch_of(config, tmp_path))
    assert ran == [(2, "code_2"), (8, "code_8")] and config.model.code_dim == 30
    left = json.loads((tmp_path / "error_by_code_size.json").read_text())
    assert {size: each["pca_mse"]["value"] for size, each in left.items()} == {"2": 0.1, "8": 0.025}
    assert (tmp_path / "error_by_code_size.png").read_bytes().startswith(b"\x89PNG")
    assert "code of     8 numbers: mean squared error 0.01250, PCA 0.02500" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "message"), [(["2", "x"], "has 'x'"), (["0"], "has '0'"), ([], "is empty")])
def test_sizes_that_are_none_are_one_line(words, message):
    with pytest.raises(InputError, match=rf"^--code_dims {message}; it takes whole numbers from 1"):
        code_sizes.sizes(words)


def test_a_config_without_a_size_of_the_code_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"needs a config with model\.code_dim"):
        code_sizes.main(launch_of(base.get_config(), tmp_path))
