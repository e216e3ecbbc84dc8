# Everything runs from .venv, which `make install` fills; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test test-slow lint clean

install: $(VENV)/.installed

NATIVE := $(wildcard tinyvit_kd/views/csrc/*.[ch] tinyvit_kd/views/csrc/kernels/*.h)

$(VENV)/.installed: setup.cfg pyproject.toml setup.py $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/tinyvit-kd demo

# As many processes as there are cores, since most tests wait for a process of one thread. A file stays with one of them,
# as its fixtures do; in the files' own order, in which short ones are the last. (xdist's groups do nothing under pytest
# 9.2.) Each process imports for some seconds, so a single file is quicker without: .venv/bin/python -m pytest FILE
test: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Campaigns, and whatever else takes more than 20 seconds a test; pyproject.toml leaves them out of make test. In one
# process, since they start others and watch the clock.
test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
