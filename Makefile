.PHONY: check test slow docs format

PYTHON ?= python

check:            ## style, format and types of the public names
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format:           ## let ruff write what `check` asks for
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

test:             ## the suite that every change passes
	$(PYTHON) -m pytest

slow:             ## the long runs: accuracy over seeds
	$(PYTHON) -m pytest -m slow

docs:             ## warnings are errors
	$(PYTHON) -m sphinx -W --keep-going -b html docs docs/_build/html
