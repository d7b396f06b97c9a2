# Needs only Python 3.11 or later and make. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh
UV_VERSION := 0.13.9
VENV := .venv/bin
SEED ?= 1
DURATION ?= 60
HISTORIES ?= 100000
SECONDS ?= 60
WORKERS ?= 2
# Unit tests wait for timers and child processes for a part of their time.
UNIT_WORKERS ?= 4
RACES ?= 240
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && exit; done)

.PHONY: help setup up down lint docs format test test-unit test-images test-faults test-cluster races model fuzz bench bench-lists bench-memory bench-hot-owner bench-page bench-capacity page-pictures first-event release clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.complete ## Create .venv from the lock file, with what tests and develops it

define first_start
	@test -n "$(PYTHON)" || { \
		echo "✗ No Python 3.11 or later on PATH: install one, or name it with PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "✗ PYTHON=$(PYTHON) is not Python 3.11 or later: name one that is, or leave PYTHON out." >&2; exit 1; }
	@"$(PYTHON)" -m deploy.local.first_start $(UV_VERSION)
endef

.venv/.complete: pyproject.toml uv.lock
	$(first_start) --all
	@touch .venv/.runnable $@

# What runs a stack, without the packages that test and develop it: 50 MB less to download.
.venv/.runnable: pyproject.toml uv.lock
	$(first_start)
	@touch $@

up: .venv/.runnable ## Start everything, upload a sample photo, run until Ctrl-C (.venv/bin/imagepipe up --help)
	@$(VENV)/imagepipe up --sample $(ARGS)

down: ## Stop everything that `make up` started, and keep the data
	@if [ -x $(VENV)/imagepipe ]; then $(VENV)/imagepipe down $(ARGS); else echo "Nothing was started here."; fi

lint: setup ## Check style, types and which folder imports which
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-logo

docs: setup ## Write the generated pages: settings, metrics and alerts, dashboard, events, figures
	$(VENV)/python -m docs.generate.configuration
	$(VENV)/python -m docs.generate.observability
	$(VENV)/python -m docs.generate.dashboard
	$(VENV)/python -m docs.generate.events
	$(VENV)/python -m docs.generate.performance
	$(VENV)/python -m docs.generate.capacity

format: setup ## Format the code and fix the style errors that ruff can fix
	$(VENV)/ruff format .
	$(VENV)/ruff check --fix .

test: test-unit ## Run all tests: unit, then on real engines (WORKERS=2 stacks, 2 GB of memory each)
	$(VENV)/pytest tests --ignore=tests/unit -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-unit: setup ## Run the tests that need no engine
	$(VENV)/pytest tests/unit -n $(UNIT_WORKERS) $(ARGS)

test-images: setup ## Build both images and run the services from them (needs Docker, or buildah as root)
	$(VENV)/pytest tests/integration/test_container_images.py -s $(ARGS)

test-faults: setup ## Run only a fault run, and add it to docs/fault-runs.md: SEED=7 DURATION=600 (seconds)
	SEED=$(SEED) DURATION=$(DURATION) FAULT_TABLE=1 $(VENV)/pytest tests/faults $(ARGS)

races: setup ## Race requests against each other while parts are stopped and killed: RACES=1000 (of each kind) SEED=7 KINDS="PUT set"
	SEED=$(SEED) RACES=$(RACES) KINDS="$(KINDS)" $(VENV)/pytest tests/races $(ARGS)

test-cluster: DURATION = 240
test-cluster: setup ## Run the tests on engines and a fault run on three brokers and three nodes: SEED=7 DURATION=600
	SEED=$(SEED) DURATION=$(DURATION) FAULT_TABLE=1 $(VENV)/pytest --cluster \
		tests/faults tests/cluster tests/convergence tests/integration $(ARGS)

model: setup ## Explore the models of tests/model at length: HISTORIES=100000
	$(VENV)/python -m tests.model.explore --histories $(HISTORIES) $(ARGS)

fuzz: setup ## Fuzz the parsers, all at the same time: SECONDS=600
	$(VENV)/python -m tests.fuzz.campaign $(SECONDS)

bench: setup ## Measure all figures with their floors: SUITE=gateway|pipeline|index|growth PHOTOS=directory
	$(VENV)/python -m bench suite $(if $(SUITE),--suite $(SUITE)) $(if $(PHOTOS),--photos "$(PHOTOS)") $(ARGS)
	$(VENV)/python -m docs.generate.performance
	$(VENV)/python -m docs.generate.capacity

bench-capacity: setup ## Simulate partitions and processors with the costs of the last `make bench`: ARGS="--rate 100"
	$(VENV)/python -m bench.capacity $(ARGS)
	$(VENV)/python -m docs.generate.capacity

bench-page: setup ## Measure the page on a gallery of 10,000 images (needs Chromium): ARGS="--images 2000"
	$(VENV)/python -m bench.page $(ARGS)

page-pictures: setup ## Take the pictures of the page for README and docs (needs Chromium and the font Inter)
	$(VENV)/python -m docs.generate.page_pictures $(ARGS)

# These benchmarks measure the stack that `make up` started in this directory.
bench-lists: setup ## Measure lists: ARGS="--images 200000"
	set -a; . .imagepipe/env; set +a; $(VENV)/python -m bench.lists $(ARGS)

bench-memory: setup ## Measure the memory of processor and gateway under heavy load: ARGS="--seconds 300"
	$(VENV)/python -m bench.memory $(ARGS)

bench-hot-owner: setup ## Measure how one owner with nine tenths of the uploads delays the others: ARGS="--rate 3"
	$(VENV)/python -m bench.hot_owner $(ARGS)

first-event: setup ## Run the code blocks of docs/events.md, from `make up` to a first event, in a new copy of the last commit
	$(VENV)/python -m docs.first_event

release: setup ## Release the version in pyproject.toml: contract, changelog, wheels, SBOM and checksums in dist/
	$(VENV)/python -m docs.generate.release

clean: ## Stop the stack of this directory (its data stays), and remove environments and caches
	@if [ -x $(VENV)/imagepipe ] && [ -f .imagepipe/state.json ]; then $(VENV)/imagepipe down; fi
	rm -rf .venv .uv .fuzz .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis build dist client/python/dist client/node_modules client/typescript/schema.d.ts tests/support/node/node_modules *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
