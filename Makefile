# make demo    build, encrypt real DICOM files, show what happened
# make test    build, install what the tests need, run all of them
# make lint    style checks
# make soak    the long runs
# make bench   figures, ratios and targets in one table; JSON in bench/results/
# make bench-short   the same with few rounds, under a minute
# make clean
#
# Everything goes into $(VENV); nothing outside this folder is changed.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = pyproject.toml setup.py $(shell find csrc dicomcrypt \
	\( -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.[ch]' -o -name '*.inc' \) \
	! -path 'dicomcrypt/native/*.c' 2>/dev/null)
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= auto
SOAK_SECONDS ?= 3600
# pyscard, for card readers, is built here and needs the header of libpcsclite-dev.
PCSC = $(wildcard /usr/include/PCSC/winscard.h)$(shell pkg-config --exists libpcsclite 2>/dev/null && echo yes)
comma = ,

# What is tested is what was installed, not the source folder.
export PYTHONSAFEPATH = 1

.PHONY: demo test lint soak bench bench-short clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

test: $(VENV)/.test
	$(BIN)/pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .

soak: $(VENV)/.test
	DICOMCRYPT_SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/pytest -n $(WORKERS) -m soak $(PYTEST_ARGS)

BENCH = $(BIN)/pytest bench --benchmark-quiet -q -p no:xdist -W default

bench: $(VENV)/.bench
	$(BENCH) $(PYTEST_ARGS)

bench-short: $(VENV)/.bench
	$(BENCH) --short $(PYTEST_ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "dicomcrypt needs Python 3.11 or newer: set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Debian: apt-get install python3-venv python3-dev gcc" >&2; exit 1; }

$(VENV)/.demo: $(SOURCES) | $(VENV)/bin/python
	@rm -rf build/lib* build/bdist*
	$(PIP) install '.[images]'
	@touch $@

$(VENV)/.test: $(SOURCES) | $(VENV)/bin/python
	@rm -rf build/lib* build/bdist*
	$(PIP) install '.[test$(if $(PCSC),$(comma)card)]'
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: $(SOURCES) | $(VENV)/bin/python
	@rm -rf build/lib* build/bdist*
	$(PIP) install '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo-out .pytest_cache .hypothesis .ruff_cache
	find dicomcrypt -name '*.so' -delete
	rm -f dicomcrypt/native/*.c
