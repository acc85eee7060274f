# Two commands do everything: `make vae` trains, evaluates and reports; `make test` passes the tests.
# The first call of either makes the virtual environment from requirements.lock.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help vae autoencoder gan stylegan autoregressive flow test lint lock clean

help:
	@echo "make vae [ARGS='--config.seed=1']   train, evaluate and report a VAE on real digits"
	@echo "make autoencoder                    the same with a deep autoencoder, beside principal components"
	@echo "make gan                            a DCGAN on the same digits"
	@echo "make stylegan                       a ProGAN on the same digits"
	@echo "make autoregressive                 a gated PixelCNN on the same digits, binary"
	@echo "make flow                           a Glow on the same digits"
	@echo "make test                           run the tests"
	@echo "make lint                           formatting, style, types"
	@echo "PYTHON=python3.13 VENV=.venv313     another interpreter, another environment"

vae: $(VENV)/installed
	$(BIN)/python -m experiments.vae --config=configs/vae.py $(ARGS)

autoencoder: $(VENV)/installed
	$(BIN)/python -m experiments.autoencoder --config=configs/autoencoder.py $(ARGS)

gan: $(VENV)/installed
	$(BIN)/python -m experiments.gan --config=configs/gan.py $(ARGS)

stylegan: $(VENV)/installed
	$(BIN)/python -m experiments.stylegan --config=configs/stylegan.py $(ARGS)

autoregressive: $(VENV)/installed
	$(BIN)/python -m experiments.autoregressive --config=configs/autoregressive.py $(ARGS)

flow: $(VENV)/installed
	$(BIN)/python -m experiments.flow --config=configs/flow.py $(ARGS)

test: $(VENV)/installed
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ty check --error-on-warning

$(VENV)/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "genlab needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "installing into $(VENV), about a minute"
	$(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null; then uv pip install -q --python $(BIN)/python -c requirements.lock -e '.[dev]'; \
		else $(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e '.[dev]'; fi
	@touch $@

lock:  # after a change of pyproject.toml; needs uv
	uv pip compile -q --universal --python-version 3.11 --all-extras --no-header --no-annotate --no-emit-index-url \
		pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .cache build *.egg-info
