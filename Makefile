# make demo    build, encrypt real DICOM files, show what happened
# make test    build, install what the tests need, run all of them
# make lint    style of Python and C, types, workflow files
# make coverage  lines of Python that the tests run, in build/coverage (half an hour)
# make docs    the documents as pages, in build/docs
# make soak    the long runs
# make bench   figures, ratios and targets in one table; JSON in bench/results/
# make bench-short   the same with few rounds, under a minute
# make dist    source archive and wheels of the Pythons found, looked at, in dist/
# make dist-check   two builds in two folders must give the same bytes
# make wheelhouse   all that an installation without a network needs, in wheelhouse/
# make clean
#
# Everything goes into $(VENV); nothing outside this folder is changed.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WHEEL = build/wheel
SOURCES = pyproject.toml setup.py $(shell find csrc dicomcrypt tools/dcmx_rescue.py docs/spec docs/keytable.md \
	\( -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.[ch]' -o -name '*.inc' -o -name '*.json' \
	-o -name '*.md' -o -name '*.txt' -o -name '*.html' \) \
	! -path 'dicomcrypt/native/*.c' 2>/dev/null)
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
# Many tests wait for servers and cards: two more than there are processors.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 2)))
SOAK_SECONDS ?= 3600
# pyscard, for card readers, is built here and needs the header of libpcsclite-dev.
PCSC = $(wildcard /usr/include/PCSC/winscard.h)$(shell pkg-config --exists libpcsclite 2>/dev/null && echo yes)
comma = ,

# What is tested is what was installed, not the source folder.
export PYTHONSAFEPATH = 1

.PHONY: demo test lint docs soak coverage bench bench-short dist dist-check wheelhouse clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

test: $(VENV)/.test
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/clang-format --dry-run -Werror $(shell find csrc -name '*.[ch]' -o -name '*.inc')
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W -q -b html docs build/docs

soak: $(VENV)/.test
	DICOMCRYPT_SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/pytest -n $(WORKERS) -m soak $(PYTEST_ARGS)

# Without compiled modules, in an environment of its own.
coverage: export COVERAGE_FILE = $(CURDIR)/build/coverage/lines
coverage: export COVERAGE_RCFILE = $(CURDIR)/pyproject.toml
coverage:
	DICOMCRYPT_PURE=1 $(MAKE) VENV=.venv-pure WHEEL=build/pure .venv-pure/.coverage
	rm -rf build/coverage
	-.venv-pure/bin/coverage run -m pytest -p no:xdist $(PYTEST_ARGS)
	.venv-pure/bin/coverage combine -q
	.venv-pure/bin/coverage html -q
	.venv-pure/bin/coverage report --sort=cover

BENCH = $(BIN)/pytest bench --benchmark-quiet -q -p no:xdist -W default

bench: $(VENV)/.bench
	$(BENCH) $(PYTEST_ARGS)

bench-short: $(VENV)/.bench
	$(BENCH) --short $(PYTEST_ARGS)

dist: $(VENV)/.dist
	$(BIN)/python tools/build_wheels.py

dist-check: $(VENV)/.dist
	$(BIN)/python tools/build_wheels.py --twice

wheelhouse: $(VENV)/.dist
	$(BIN)/python tools/wheelhouse.py $(EXTRAS:%=--extras %) $(WHEEL)/*.whl

# One make at a time builds and installs in this folder. Another waits, then looks what is left to do.
ifndef DICOMCRYPT_LOCKED

$(VENV)/.%: force
	@mkdir -p build && if command -v flock >/dev/null; then \
		flock -n build/.lock true || echo "another make builds in this folder: waiting for it" >&2; \
		exec flock build/.lock $(MAKE) --no-print-directory DICOMCRYPT_LOCKED=yes $@; \
	else exec $(MAKE) --no-print-directory DICOMCRYPT_LOCKED=yes $@; fi

.PHONY: force
force:

else

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "there is no program $(PYTHON): set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) tools/can_build.py
	@test ! -e $(VENV) || old=yes; $(PYTHON) -m venv $(VENV) || { test "$$old" || rm -rf $(VENV); exit 1; }

# The wheel is built once. What each target needs beside it is an extra of that wheel: installing
# one leaves the wheel alone and builds nothing.
$(VENV)/.wheel: $(SOURCES) | $(VENV)/bin/python
	@$(BIN)/python tools/can_build.py
	@rm -rf build/lib* build/bdist* $(WHEEL)
	$(PIP) wheel --no-deps --wheel-dir $(WHEEL) .
	$(PIP) install --force-reinstall --no-deps $(WHEEL)/*.whl
	@touch $@

EXTRA_demo = images
EXTRA_test = test$(if $(PCSC),$(comma)card)
EXTRA_docs = docs
EXTRA_bench = bench
EXTRA_dist = dist
EXTRA_coverage = $(EXTRA_test),coverage

$(VENV)/.%: $(VENV)/.wheel
	$(PIP) install "$$(echo $(WHEEL)/*.whl)[$(EXTRA_$*)]"
	@touch $@

endif

clean:
	rm -rf $(VENV) .venv-pure build dist wheelhouse *.egg-info demo-out .pytest_cache .hypothesis .ruff_cache
	find dicomcrypt -name '*.so' -delete
	rm -f dicomcrypt/native/*.c
