# Everything runs from .venv, which `make install` fills; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test test-slow test-oldest lint clean

install: $(VENV)/.installed

NATIVE := $(wildcard tinyvit_kd/views/csrc/*.[ch] tinyvit_kd/views/csrc/kernels/*.h)

$(VENV)/.installed: setup.cfg pyproject.toml setup.py $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev,manifests,albumentations]'
	touch $@

demo: install
	$(BIN)/tinyvit-kd demo

# As many processes as there are cores, since most tests wait for a process of one thread. A file stays with one of them,
# as its fixtures do; in the files' own order, in which short ones are the last. (xdist's groups do nothing under pytest
# 9.2.) A process that a test ended is not started again: xdist 3.8 would run that test over and over. Each process
# imports for some seconds, so a single file is quicker without: .venv/bin/python -m pytest FILE
SPREAD := --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 $(SPREAD)

# Campaigns, and whatever else takes more than 20 seconds a test; pyproject.toml leaves them out of make test. Two at a
# time, and no more: they start processes of their own, wait for them half of the time, and watch the clock.
test-slow: install
	$(BIN)/python -m pytest -m slow --numprocesses 2 $(SPREAD)

# With the oldest versions that setup.cfg allows, on Python 3.11 (numpy 2.0 has no wheels for Python 3.13).
OLDEST := .venv-oldest

test-oldest: $(OLDEST)/.installed
	PATH=$(CURDIR)/$(OLDEST)/bin:$$PATH $(OLDEST)/bin/python -m pytest --numprocesses auto --maxprocesses 4 $(SPREAD)

$(OLDEST)/.installed: setup.cfg pyproject.toml setup.py .ci/oldest.txt $(NATIVE)
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python -m pip install --quiet --constraint .ci/oldest.txt --editable '.[dev]'
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(OLDEST) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
