# Every target sets up .venv by itself. `make` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
PACKAGES := seqtoolkit $(wildcard plugins/*/seqtoolkit_*)
BENCHES := $(filter-out bench/gpu.py,$(wildcard bench/*.py plugins/*/bench/*.py))
# Few cores are shared by the test processes: more threads in each only wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start many processes: each compiles what it imports anew where none may keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## create .venv and install the host, every plugin and the tools in it

$(READY): Makefile requirements.txt pyproject.toml $(PLUGINS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { echo >&2 \
		"seqtoolkit needs Python 3.11 or 3.12, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# Without isolation, so that nothing is fetched anew: hatchling builds, editables is what it needs for -e.
	$(BIN)/python -m pip install -q --no-compile -r requirements.txt
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e . $(PLUGINS:%=-e %)
	@touch $@

.PHONY: run
run: setup ## learn to execute programs, in about five minutes
	$(BIN)/seqtoolkit run pipelines/program_eval.yaml

.PHONY: test
test: lint ## every check, and every test but the slow ones; those of the built wheels included
	$(PYTEST) -n 3 --dist worksteal -m "not slow and not services"

.PHONY: test-services
test-services: setup ## MLflow's pages in a browser, a tracking server on PostgreSQL; Debian's packages are installed where missing
	@missing=$$(command -v chromium > /dev/null || echo chromium; ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || echo postgresql); \
	if [ -n "$$missing" ]; then \
		command -v apt-get > /dev/null || { echo >&2 "make test-services wants" $$missing "and finds no apt-get to install it"; exit 1; }; \
		as=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		$$as apt-get -qq update && $$as env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing \
			|| { echo >&2 "make test-services wants" $$missing "and apt-get cannot install it"; exit 1; }; \
	fi
	$(PYTEST) -n 2 --dist loadfile -m "services and not slow" tests/services

.PHONY: lint
lint: setup ## format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports

.PHONY: slow
slow: setup ## the proofs that take minutes
	$(PYTEST) -m slow

.PHONY: bench
bench: setup ## every benchmark
	@for each in $(BENCHES); do echo "== $$each"; $(BIN)/python $$each; done

.PHONY: bench-gpu
bench-gpu: setup ## the relational memory core on a GPU, level by level, then worlds; GPU="--device cpu --quick" tries it without one
	$(BIN)/python bench/gpu.py $(GPU)
ifeq (,$(findstring cpu,$(GPU)))
	@for each in $$(grep -l '"--device"' plugins/*/bench/step.py); do echo "== $$each"; $(BIN)/python $$each --device cuda; done
endif

.PHONY: golden
golden: setup ## write the frozen surfaces anew; look at the diff before you commit it
	REGENERATE=1 $(PYTEST) tests/test_surface.py

.PHONY: docs
docs: setup ## write the generated parts of docs/ anew, then run every example in them
	REGENERATE=1 $(PYTEST) -m "" tests/test_docs.py

.PHONY: clean
clean: ## remove .venv and all that was made, but not runs/ and mlflow.db
	rm -rf $(VENV) dist build .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find seqtoolkit plugins tests bench -name __pycache__ -prune -exec rm -rf {} + 2> /dev/null || true
