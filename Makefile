# make train   set up everything, run a smoke run, then the main job
# make test    set up everything, run the tests in two processes (WORKERS=2)
# make docs    build the documentation into site/, offline
# make check   what a change has to pass: format, lint, types, import layers, tests
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
INSTALLED := .venv/installed
export PYTHONUNBUFFERED := 1
export PYTHONDONTWRITEBYTECODE := # pip compiles nothing: the first start does, for all that follow

.PHONY: train test docs check lint setup clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile

setup: $(INSTALLED)
	@:

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, and $(PYTHON) is older. Type make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing the pinned dependencies into .venv: about 5.5 GB, a few minutes the first time."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

train:
	@echo "This will"
	@echo "  1. set up .venv (a few minutes the first time, nothing when repeated)"
	@echo "  2. make a smoke run with a first grid of samples (under a minute)"
	@echo "  3. run  python train.py -m geometry=poincare,euclidean curvature=0.1,1.0"
	@echo "     3 runs, as both Euclidean points of the grid are the same run: about 8 minutes each on 2 quiet cores"
	@$(MAKE) --no-print-directory setup
	$(BIN)/python train.py experiment=smoke
	$(BIN)/python train.py -m geometry=poincare,euclidean curvature=0.1,1.0

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The documentation is in site/: open site/index.html, or type $(BIN)/mkdocs serve"

check: lint test

clean:
	rm -rf .venv outputs site
