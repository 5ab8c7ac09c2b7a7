# Each target makes what it needs: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := edge,cloud,lab,dev

.PHONY: help demo test check bench install stubs clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

install: $(STAMP) ## make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP) ## start both daemons, send four photos, print what they are
	$(BIN)/spikebottlenet demo

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest

check: $(STAMP) ## lint, format check and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## measure, as ratios side by side
	$(BIN)/python -m tests.benchmarks

stubs: $(STAMP) ## write the gRPC stubs from proto/
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=shared --pyi_out=shared \
	  --grpc_python_out=shared proto/spikebottlenet/rpc/v1/*.proto

clean: ## remove what the targets made
	rm -rf $(VENV) build dist
