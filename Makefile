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

bench: $(VENV)/.benched ## Speed beside other libraries, start-up, restoring, memory and training, into docs/speed.md.
	$(BIN)/python tests/benchmarks/bench_synthesis.py --json docs/speed-synthesis.json --markdown docs/speed.md
	$(BIN)/python tests/benchmarks/bench_startup.py --json docs/speed-startup.json --markdown docs/speed.md
	$(BIN)/python tests/benchmarks/bench_restore.py --json docs/speed-restore.json --markdown docs/speed.md
	$(BIN)/python tests/benchmarks/bench_denoise.py --json docs/speed-denoise.json --markdown docs/speed.md
	for command in degrade restore score; do \
		$(BIN)/python tests/benchmarks/bench_memory.py $$command --json docs/speed-memory-$$command.json \
			--markdown docs/speed.md; \
	done
	$(BIN)/python tests/benchmarks/bench_training.py --json docs/speed-training.json --markdown docs/speed.md
	$(BIN)/python tests/benchmarks/bench_processes.py --json docs/speed-processes.json --markdown docs/speed.md
	$(BIN)/python tests/benchmarks/bench_loader.py --json docs/speed-loader.json --markdown docs/speed.md

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
