# Each target makes what it needs: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := edge,cloud,lab,events,bench,docs,dev,browser

.PHONY: help demo test test-browser screenshots check docs bench report plan-check chaos strangers fuzz counter integers scale soak install stubs clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

install: $(STAMP) ## make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt hatch_build.py shared/spikebottlenet/codec/_native.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP) ## start both daemons, send four photos, print what they are (STAY=1: and go on)
	$(BIN)/spikebottlenet demo $(if $(STAY),--stay)

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest

test-browser: $(STAMP) ## install Chromium (Debian, as root) and run the live pages' tests in it
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || \
	  { echo "cannot install Chromium: run 'apt-get install chromium' as root, or install it your system's way" >&2; exit 1; }
	$(BIN)/python -m pytest tests/browser

screenshots: $(STAMP) ## write docs/images from the live pages, light and dark (needs Chromium)
	@mkdir -p docs/images
	$(BIN)/python -m pytest tests/browser -k screenshots --screenshots docs/images

check: $(STAMP) docs ## lint, format check, types and docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP) ## build the pages into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(STAMP) ## every figure as a ratio to its reference, into build/, 20 minutes (DATA=cifar100 folder)
	$(BIN)/spikebottlenet bench all $(if $(DATA),--data '$(DATA)')

report: $(STAMP) ## tables, frontiers and targets of measured runs, into build/report (RUNS='runs/a runs/b'; without: the shipped bundle's)
	$(BIN)/spikebottlenet report $(or $(RUNS),default) --out build/report

chaos: $(STAMP) ## stored and live requests under faults and kills, ten minutes
	$(BIN)/python -m tests.trials.chaos

strangers: $(STAMP) ## storms of strangers at a guarded cloud-node, three minutes
	$(BIN)/python -m tests.strangers

integers: $(STAMP) ## the shipped head on every test image by NumPy, torch and ONNX Runtime, bit for bit (DATA=cifar100 folder)
	$(BIN)/python -m tests.trials.integers --data '$(or $(DATA),uoft-cs/cifar100)' --report build/integers.json

fuzz: $(STAMP) ## fuzz what strangers send, ten minutes a target
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt atheris
	$(BIN)/python -m tests.fuzz all --seconds 610 --report build/fuzz.json

counter: $(STAMP) ## check operation counts against NeuroBench's (installed without what it brings along)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt neurobench
	$(BIN)/python -m pytest tests/test_energy_counter.py

scale: $(STAMP) ## unchanged edges before Ray Serve, a replica killed, and what it costs; four minutes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS),ray]'
	$(BIN)/python -m tests.trials.scale

soak: $(STAMP) ## an hour of load over a link that breaks: does anything grow?
	$(BIN)/python -m tests.trials.soak

plan-check: $(STAMP) ## predictions of `spikebottlenet plan` beside the daemons over a slow link, three minutes
	$(BIN)/python -m tests.trials.plan_check

stubs: $(STAMP) ## write the gRPC stubs from proto/
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=shared --pyi_out=shared \
	  --grpc_python_out=shared proto/spikebottlenet/rpc/v1/*.proto

clean: ## remove what the targets made
	rm -rf $(VENV) build dist shared/spikebottlenet/codec/*.so
