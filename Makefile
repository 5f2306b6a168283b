# make demo    compare optimizers on the shipped model; the page is runs/demo/report.html
# make test    all tests; those against torch skip where torch cannot be had
# make lint    style and types
# All three need Python 3.11 or later and install what else they need into .venv, once.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check

.PHONY: demo test lint clean

demo: $(VENV)/.stamp-run
	$(VENV)/bin/subliminal-jax optimizer-comparison --out runs/demo

test: $(VENV)/.stamp-test
	$(VENV)/bin/python -m pytest

lint: $(VENV)/.stamp-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is older than Python 3.11; name another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-run: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) (about a minute)"
	$(PIP) --editable .
	@touch $@

# The tests against torch models are left out, not failed, where torch cannot be installed.
$(VENV)/.stamp-test: pyproject.toml | $(VENV)/bin/python
	@echo "installing with the tests' needs into $(VENV) (a few minutes)"
	$(PIP) --editable '.[test]'
	@$(PIP) --editable '.[parity]' 2>/dev/null \
	  || echo "torch could not be installed: the tests against it will skip"
	@touch $(VENV)/.stamp-run $@
