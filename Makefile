# `make help` lists the targets. Everything installs into .venv; the stamp files there say what is already done.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYIQA := pyiqa>=0.1.16,<0.2
IMAGECORRUPTIONS := imagecorruptions==1.1.2

.PHONY: demo setup test lint type bench chaos mutants audit docs check gallery train-default help

demo: $(VENV)/.installed ## Restore the photos in examples/ and draw a before/after sheet.
	$(BIN)/python examples/run_demo.py

setup: $(VENV)/.tested ## Make .venv with everything that development needs.

test: $(VENV)/.tested ## Run all tests.
	$(BIN)/python -m pytest

lint: $(VENV)/.tested ## Style, docstrings and import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/.tested ## Static types.
	$(BIN)/mypy

bench: $(VENV)/.benched ## Speed beside other libraries, start-up, restoring, training and memory, into docs/speed.md; an hour.
	@missed=; \
	measure() { \
		script=$$1; name=$$2; shift 2; \
		$(BIN)/python tests/benchmarks/bench_$$script.py "$$@" --json docs/speed-$$name.json --markdown docs/speed.md \
			|| missed="$$missed $$name"; \
	}; \
	for each in synthesis startup restore denoise score training processes loader; do measure $$each $$each; done; \
	for command in degrade score; do measure memory memory-$$command $$command --runs 10x24 1000x24 20000x24; done; \
	measure memory memory-restore restore --runs 10x24 1000x24 20000x24 1x1024 1x2048 1x4096; \
	test -z "$$missed" || { echo "Short of what is asked for, or failed:$$missed" >&2; exit 1; }

chaos: $(VENV)/.tested ## Kill every command fifty times and compare with an undisturbed run; an hour.
	$(BIN)/python tests/chaos.py

mutants: $(VENV)/.tested ## Feed ten thousand damaged pictures to restore and score; minutes.
	$(BIN)/python tests/mutants.py --keep mutants

audit: $(VENV)/.tested ## Compare the installed packages with published security advisories; asks PyPI.
	$(PIP) install pip-audit
	$(BIN)/python tests/audit.py

docs: $(VENV)/.tested ## Write the pages in docs/ from the code.
	$(BIN)/python docs/make_docs.py

gallery: $(VENV)/.tested ## Draw the sheet of every plugin into examples/gallery/.
	$(BIN)/python examples/make_gallery.py

train-default: $(VENV)/.tested ## Train the default model anew: make train-default DATA=folder-of-photographs
	$(BIN)/defusion train-tokenizer --out runs/default/tokenizer
	$(BIN)/defusion train --preset sharpening --data '$(DATA)' --tokenizer runs/default/tokenizer/tokenizer \
	  --out runs/default/sharpening
	$(BIN)/defusion train --data '$(DATA)' --tokenizer runs/default/tokenizer/tokenizer \
	  --init-from runs/default/sharpening/model --out runs/default/unet
	$(BIN)/defusion train --preset later-steps --data '$(DATA)' --tokenizer runs/default/tokenizer/tokenizer \
	  --init-from runs/default/unet/model --out runs/default/model

check: lint type test ## What CI runs.

help: ## Show this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | column -t -s '|'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	touch $@

# pyiqa comes without its dependencies, see the extra "score" in pyproject.toml.
$(VENV)/.tested: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev]'
	$(PIP) install --no-deps '$(PYIQA)'
	touch $@ $(VENV)/.installed

# imagecorruptions without its dependencies, see the extra "bench" in pyproject.toml.
$(VENV)/.benched: pyproject.toml | $(VENV)/.tested
	$(PIP) install --editable '.[bench]'
	$(PIP) install --no-deps '$(IMAGECORRUPTIONS)'
	touch $@
