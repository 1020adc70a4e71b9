# Everything happens in .venv in this folder; the real programs of the demo go to ~/.cache/oomless. Start with `make` alone.
PYTHON ?= python3
FAULTS ?= 200
JOBS ?= 4
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-vm lint bench soak corpus

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf 'make %-8s  %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## make .venv and install oomless and its tools there (PYTHON=... picks an interpreter)

demo: $(STAMP) ## replay the incident, ungoverned and governed (ARGS=--synthetic: small agents, no download)
	@$(BIN)/oomless demo $(ARGS)

test: $(STAMP) ## run the tests, JOBS at a time (ARGS=... goes to pytest)
	@$(BIN)/pytest -n $(JOBS) --dist load --maxschedchunk 1 $(ARGS)

test-all: ## all that .ci/run does in its long form: the real demo, 1,000 faults, every machine (an hour or more; as root)
	@.ci/run --all

test-vm: $(STAMP) ## test containment under systemd in virtual machines (needs root; ARGS="--release trixie", ...)
	@$(BIN)/python -m tests.vm $(ARGS)

lint: $(STAMP) ## ruff and mypy (for Linux and, as far as src goes, for macOS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin src

bench: $(STAMP) ## measure what oomless costs and how it contains: every bench/*.py
	@set -e; for file in bench/[!_]*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

soak: $(STAMP) ## kill daemon, shims and agents at random FAULTS times, and look for what is left
	@$(BIN)/python -m tests.soak --faults $(FAULTS)

corpus: $(STAMP) ## score the labelled corpus in tests/corpus (ARGS=--docs also writes docs/corpus.md)
	@$(BIN)/python -m tests.corpus $(ARGS)

# One line for what is missing; nothing if all is there.
MISSING = $(shell \
	command -v '$(PYTHON)' >/dev/null 2>&1 || \
		{ echo 'there is no $(PYTHON); install Python 3.11 or later, or say make PYTHON=/path/to/python3'; exit; }; \
	'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo '$(PYTHON) is older than Python 3.11; say make PYTHON=/path/to/python3.11'; exit; }; \
	'$(PYTHON)' -c 'import venv, ensurepip' 2>/dev/null || \
		echo "Python's venv module is missing; install python3-venv")

# pip's cache in the home folder is what later runs take their downloads from. A .venv that works is kept.
$(STAMP): pyproject.toml constraints.txt
	$(if $(MISSING),$(error $(MISSING)))
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || '$(PYTHON)' -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' || { \
		command -v cc >/dev/null || echo 'make: there is no C compiler, which a package may need; install gcc' >&2; \
		echo 'make: the packages could not be installed; see above' >&2; exit 1; }
	@touch $@
