# make train       train a first network on real data and write its report
# make test        check formatting and types, run the quick tests: minutes
# make test-all    check formatting and types, run all tests
# make docs        build the documentation into build/docs
# make notebooks   execute the tutorials and store their outputs
# make bench-env   create .venv-bench with PyTorch, torchvision and timm for experiments/benchmark.py --against=torch
# Each creates .venv first if it does not exist; python3.11 or newer is all that is needed.

PYTHON ?= python3
PY := .venv/bin/python
PYTEST := $(PY) -m pytest -n auto --maxprocesses=4 --dist=worksteal

.PHONY: train test test-all check docs notebooks bench-env clean

train: .venv/installed
	$(PY) experiments/train.py --config=configs/lenet5_digits.py --workdir=runs/digits

test: check
	$(PYTEST) -m "not slow"

test-all: check
	$(PYTEST)

check: .venv/installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: .venv/installed
	$(PY) -m sphinx --fail-on-warning --keep-going -q -b html docs build/docs

notebooks: .venv/installed
	$(PY) docs/execute.py --write docs/tutorials/*.ipynb

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("jaxcnn needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

bench-env: .venv-bench/installed

# torchvision and timm without their dependencies, because they pin another PyTorch
.venv-bench/installed: Makefile constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 numpy pillow \
		opencv-python-headless pyyaml huggingface_hub safetensors
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0 timm==1.0.31
	touch $@

clean:
	rm -rf .venv .venv-bench build runs
