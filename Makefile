# Everything is reached through make. The first target lists the others.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-lightning soak test-containers fuzz simulate simulate-exhaustive simulate-planted mutants attacks lint docs bench bench-convergence bench-lightning bench-oracle bench-scale bench-settlement tools tools-deploy tools-collector tools-cluster cluster cluster-down test-cluster chart images pictures clean

UV_VERSION := 0.13.9
PYTHON := python3.11
BIN := .venv/bin
PYTHON_TREES := $(wildcard libs/*/src services/*/src) tests $(if $(wildcard benchmarks/*.py),benchmarks)
ARGS ?=
LIGHTNING ?= lndsim
STEPS ?= 10000
SEEDS ?= 1000
SECONDS_MAX ?= 0
DEVICE ?= cpu

# The project's own uv in .uv/, its own interpreter, its own environment: nothing of the caller's is used or changed.
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: .uv/bin/uv-$(UV_VERSION) ## make .venv with everything in it; quick when up to date
	@started=$$SECONDS; .uv/bin/uv sync --frozen --quiet --python $(PYTHON); echo "setup: ready in $$((SECONDS - started)) s"

.uv/bin/uv-$(UV_VERSION):
	@command -v $(PYTHON) >/dev/null || { echo "setup: $(PYTHON) is missing. Install Python 3.11 (Debian 12: apt-get install python3.11 python3.11-venv; macOS: brew install python@3.11)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "setup: $(PYTHON) does not run, or is not Python 3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "setup: Python's venv module is missing. Install it (Debian 12: apt-get install python3.11-venv)" >&2; exit 1; }
	@rm -rf .uv && $(PYTHON) -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) || { echo "setup: uv $(UV_VERSION) could not be installed; is the package index reachable?" >&2; exit 1; }
	@touch $@

demo: setup ## the whole network on this machine, real training, paid for: make demo ARGS="--rounds 3"; LIGHTNING=lnd: on real lnd
	@$(BIN)/l402-train demo --lightning $(LIGHTNING) $(ARGS)

test: setup ## all tests; make test ARGS="-k bolt11". With REQUIRE_REAL=1 a missing real part is a failure
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --ignore tests/containers --ignore tests/cluster $(ARGS)

test-lightning: setup tools ## the Lightning contract on lndsim and real lnd, and both side by side; says how much of each
	@REQUIRE_REAL=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup tests/contract/lightning $(ARGS)

soak: setup tools ## random histories on lndsim and real lnd side by side for longer: make soak STEPS=20000 SEED=1
	@REQUIRE_REAL=1 STEPS=$(STEPS) SEED=$(or $(SEED),$$RANDOM) $(BIN)/python -m pytest -n 0 tests/contract/lightning/test_lightning_differential.py $(ARGS)

test-containers: setup tools-deploy ## the whole system in containers, faults done to each part: wants a Docker engine and make images
	@$(BIN)/python -m pytest -n 0 -s tests/containers $(ARGS)

fuzz: setup ## a million mutated payloads against the decoder: make fuzz ARGS="--seconds 60 --seed 7"
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.payloads $(ARGS)

simulate: setup ## random histories of the whole system: make simulate SEEDS=10000 [SECONDS_MAX=300]; SEED=123 tells one
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.simulation $(if $(HISTORY),--history '$(HISTORY)',$(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --seconds-max $(SECONDS_MAX))) $(ARGS)

simulate-exhaustive: setup ## a death at every effect of every story and every reveal of all 64 masks; every call to lnd and stream lost
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.simulation --exhaustive $(ARGS)

simulate-planted: setup ## plant bugs one by one and see the simulator find each; one that it misses fails
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.simulation --planted $(ARGS)

mutants: setup ## change escrow, ledger and reward arithmetic a little, each way: its tests must notice (tools/mutants.txt)
	@OMP_NUM_THREADS=1 $(BIN)/python tools/mutants.py $(ARGS)

attacks: setup ## every attack through the oracle, 5 rounds, as a table of money: make attacks ARGS="hopeless --rounds 2"
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.attacks $(ARGS)

lint: setup ## ruff, import contracts, mypy --strict, pyright: all of them, whichever fails
	@failed=0; for check in "ruff check ." "ruff format --check ." lint-imports "mypy $(PYTHON_TREES)" pyright; do \
		echo "== $$check"; $(BIN)/$$check || failed=1; done; exit $$failed

docs: setup ## build the documentation into site/ and check what is generated against the code
	$(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m l402train.docs --check
	$(BIN)/python tools/chart_schema.py --check
	$(BIN)/python tools/dashboards.py --check

bench: setup ## measure on this machine: every program in benchmarks/
	@for bench in $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py)); do echo "== $$bench"; $(BIN)/python "$$bench" $(ARGS); done

bench-convergence: setup ## AdamW, dense averaging, DiLoCo and SparseLoCo on the same tokens: make bench-convergence DEVICE=cuda ARGS="--tune --json x.json"
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/convergence.py --device $(DEVICE) $(ARGS)

bench-lightning: setup ## a full round's payments beside a plain client, on real lnd where it is built (make tools), else on lndsim
	@$(BIN)/python benchmarks/lightning.py $(ARGS)

bench-oracle: setup ## the codec, the cost of scoring a peer, peers per hour: make bench-oracle DEVICE=cuda ARGS="--seconds 240"
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/oracle.py --device $(DEVICE) $(ARGS)

bench-scale: setup ## 70 peers in 70-second rounds on this machine: make bench-scale [LIGHTNING=lnd]; ARGS="growth": up to 1,000 peers
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scale.py --lightning $(LIGHTNING) $(ARGS)

bench-settlement: setup ## settling on SQLite and PostgreSQL: make bench-settlement ARGS="--history 100 --waves 1"
	@$(BIN)/python benchmarks/settlement.py $(ARGS)

tools: ## build lnd, lncli, btcd and zpay32 into .tools/bin (needs Go)
	@tools/build-lightning

tools-deploy: ## build helm, kubeconform and docker compose into .tools (needs Go)
	@tools/build-deploy
	@tools/build-compose

tools-collector: ## build the OpenTelemetry collector of compose.yaml into .tools/collector (needs Go; a minute the first time)
	@tools/build-collector

tools-cluster: ## build a Kubernetes of one node into .tools/kubernetes (needs Go; fifteen minutes the first time)
	@tools/build-kubernetes core coredns keda

cluster: setup ## a Kubernetes of one node on this machine, or the one that KUBECONFIG names; as root; ARGS=--stay: until ctrl-C
	@test -n "$(KUBECONFIG)" || tools/build-kubernetes core coredns
	@$(BIN)/python tools/cluster up $(ARGS)

cluster-down: setup ## take it down; nothing of it is left but its logs
	@$(BIN)/python tools/cluster down $(ARGS)

test-cluster: setup tools-deploy ## the chart on that cluster or a new one: rounds, scaling, upgrade, rollback, drain; wants make images
	@test -n "$(KUBECONFIG)" || tools/build-kubernetes core coredns keda
	@$(BIN)/python -m pytest -n 0 -s tests/cluster $(ARGS)

chart: setup tools-deploy ## the chart as the real helm renders it, checked: schemas, policies, alerts (needs Go and promtool)
	@$(BIN)/python -m pytest -n 0 tests/deploy $(ARGS)

images: ## build our images (needs a Docker engine); LOCAL=1: on a base of Debian packages; REGISTRY, TAG, BASE
	@LOCAL=$(LOCAL) tools/build-images

pictures: setup ## pictures of the status page from a network that runs for ten minutes; needs Chromium
	@$(BIN)/python tools/status_pictures.py $(ARGS)

clean: ## remove what was built here, the environment included
	rm -rf .venv .uv .tools site dist demo-report .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
