# make train   a first network, trained on real data, with a report
# make test       formatting, types and the quick tests: minutes
# make test-all   formatting, types and all tests
# All make .venv first if it is missing; python3.11 or newer is all they need.
# make bench-env   .venv-bench, PyTorch and its models for experiments/benchmark.py --against=torch

PYTHON ?= python3
PY := .venv/bin/python
PYTEST := $(PY) -m pytest -n auto --maxprocesses=4 --dist=worksteal

.PHONY: train test test-all check bench-env clean

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

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("jaxcnn needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

bench-env: .venv-bench/installed

# torchvision and timm without what they ask for: their pins of PyTorch would bring another one
.venv-bench/installed: Makefile constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 numpy pillow \
		opencv-python-headless pyyaml huggingface_hub safetensors
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0 timm==1.0.31
	touch $@

clean:
	rm -rf .venv .venv-bench build runs
