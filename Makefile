# Needs Python 3.11 or newer, make and git; everything else goes into .venv.
# Another interpreter: make install PYTHON=/path/to/python

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# One computing thread per test worker: the workers share the cores already.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: install demo test test-all lint bench clean

install: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@set -e; \
	for python in $(PYTHON) python3.11 python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Installing into .venv with $$($$python --version)"; \
	    $$python -m venv .venv; \
	    $(PIP) install --quiet -r requirements.lock; \
	    $(PIP) install --quiet --no-deps -e .; \
	    touch $@; \
	    exit 0; \
	  fi; \
	done; \
	echo "fedpeft needs Python 3.11 or newer: neither python3.11 nor python3 is one;" \
	  "install it or run: make install PYTHON=/path/to/python" >&2; \
	exit 1

demo: install
	$(BIN)/fedpeft demo

test: install
	$(PYTEST) -m "not slow"

test-all: install
	$(PYTEST)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python benchmarks/run.py

# Run folders stay: they are results.
clean:
	rm -rf .venv build dist .benchmarks .hypothesis .import_linter_cache .mypy_cache \
	  .pytest_cache .ruff_cache src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
