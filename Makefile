# einthoven: every target sets up what it needs in .venv, and nothing outside this folder.
.DEFAULT_GOAL := help
.PHONY: help setup lint type format test test-bounds bench train prepare sweep ui notebooks docs lock clean

PYTHON ?= python3
OLDEST_PYTHON ?= python3.11
NEWEST_PYTHON ?= python3.13
BIN := .venv/bin
ARGS ?=

ifneq ($(wildcard ../shared/data/ptbxl),)
export EINTHOVEN_REAL_DATA ?= $(abspath ../shared/data)
endif

help:  ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  arguments go in ARGS, as in: make train ARGS="model=xresnet1d101 optimizer=muon"'

setup: .venv/installed  ## make .venv and install everything

.venv/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "einthoven needs Python 3.11 or newer; name one with: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (PyTorch and MLflow are large: some minutes the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e ".[dev]"
	@touch $@

lint: setup type  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup  ## mypy --strict on src
	$(BIN)/mypy

format: setup  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup  ## the whole test suite
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

test-bounds:  ## before a release: the suite with the lowest versions, and with the newest ones and Python
	rm -rf .bounds
	$(OLDEST_PYTHON) -m venv .bounds/lowest
	$(NEWEST_PYTHON) -m venv .bounds/newest
	.bounds/lowest/bin/python bench/lowest_versions.py > .bounds/lowest.txt
	.bounds/lowest/bin/python -m pip install -q -c .bounds/lowest.txt -e ".[dev]"
	.bounds/newest/bin/python -m pip install -q -e ".[dev]"
	.bounds/lowest/bin/ruff check . && .bounds/lowest/bin/ruff format --check .
	@lowest=0; .bounds/lowest/bin/pytest -n auto --dist worksteal $(ARGS) || lowest=$$?; \
		.bounds/newest/bin/pytest -n auto --dist worksteal $(ARGS) && exit $$lowest

bench: setup  ## print the figures of docs/performance.md, on an idle machine (about an hour)
	$(BIN)/python bench/bench_fixed_cost.py
	$(BIN)/python bench/bench_busy.py
	$(BIN)/python bench/bench_models.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/bench_models.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/bench_convolution.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/bench_step.py --epochs 3 data.records=300
	OMP_NUM_THREADS=1 $(BIN)/python bench/bench_models.py conv_attention --compile
	$(BIN)/python bench/bench_launches.py
	for part in first_step prepare year large intervals; do $(BIN)/python bench/bench_corpora.py $$part || exit 1; done

train: setup  ## train on the embedded data (or as ARGS says) and log to MLflow
	@$(BIN)/einthoven train $(ARGS)

prepare: setup  ## generate or pack records without training
	@$(BIN)/einthoven prepare $(ARGS)

sweep: setup  ## compare optimizers and schedules over seeds on the embedded data
	@$(BIN)/einthoven train $(if $(ARGS),-m $(ARGS),sweep=optimizers)

ui: setup  ## open the MLflow page
	@$(BIN)/einthoven ui $(ARGS)

notebooks: setup  ## execute the notebooks into docs/notebooks and .ipynb, with their pictures
	@OMP_NUM_THREADS=1 $(BIN)/python bench/render_notebooks.py $(ARGS)

docs: setup  ## build the documentation site, and check its links
	$(BIN)/python website/build.py

lock: setup  ## pin what is installed now
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' | grep -vE '^(nvidia|triton|pip==|setuptools==)' > requirements.lock

clean:  ## delete caches and outputs; keeps .venv, data and mlflow.db
	rm -rf outputs dist build .bounds .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
