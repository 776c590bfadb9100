# make train   a first network, trained on real data, with a report
# make test    formatting, types and tests
# Both make .venv first if it is missing; python3.11 or newer is all they need.

PYTHON ?= python3
PY := .venv/bin/python

.PHONY: train test clean

train: .venv/installed
	$(PY) experiments/train.py --config=configs/lenet5_digits.py --workdir=runs/digits

test: .venv/installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -n auto --maxprocesses=4 --dist=worksteal

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("jaxcnn needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build runs
