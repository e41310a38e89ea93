# Two commands are enough: `make nightly` and `make test`. Each sets up what it needs, once.
# An empty variable counts as unset.
PYTHON := $(or $(PYTHON),python3)
UI_PORT := $(or $(UI_PORT),4200)
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
TORCH := $(or $(TORCH),$(if $(wildcard $(VENV)/ready-cpu),cpu,default))
READY := $(VENV)/ready-$(TORCH)
.PHONY: help setup nightly test chaos fuzz check docs docs-reference bench bench-quick format lock ui ui-stop \
	deployments e2e month image image-check cloud-check deploy clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## install requirements/dev.lock into .venv (TORCH=cpu: torch without CUDA)

# TORCH=cpu takes the lock as constraints, so that the CUDA libraries it lists are not installed.
$(READY): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 15) else \
		f"Python 3.11 to 3.14 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
ifeq ($(TORCH),cpu)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --torch-backend cpu \
		--constraint requirements/dev.lock --editable '.[dev]'
else
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirement requirements/dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
endif
	@rm -f $(VENV)/ready-* && touch $@

nightly: setup ## run the whole job once: download, train, predict, submit, score (ARGS="--preset best")
	@$(BIN)/python -m flows nightly $(ARGS)

# Three processes for two cores, since tests wait for servers; one thread each, since torch's threads spin.
test: setup ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(ARGS)

check: setup ## check format, lint, types, spelling, workflows, Dockerfile and documentation
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m flows.ops.reference --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

docs: setup ## build the documentation into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-reference: setup ## generate docs/configuration.md, docs/cli.md and .env.example from the code
	$(BIN)/python -m flows.ops.reference

chaos: setup ## kill runs at every call, inject every fault, start many at once: about an hour
	OMP_NUM_THREADS=1 CHAOS=all $(BIN)/python -m pytest --numprocesses 2 --dist load --timeout 3600 -rP \
		--log-disable prefect.flow_runs tests/flows/chaos $(ARGS)

fuzz: setup ## read a million damaged CSV files and pictures: 20 minutes (ARGS="--inputs 10000 --seed 1")
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.core.fuzz $(ARGS)

bench: setup ## measure speed and scores beside the original notebooks', in one table (ARGS="--json FILE")
	$(BIN)/python -m tests.bench.bench $(ARGS)

bench-quick: setup ## measure the same in three minutes, from fewer runs
	$(BIN)/python -m tests.bench.bench --quick $(ARGS)

format: setup ## format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# The images' locks hold dev.lock's versions, with hashes. torch's own needs are named, where it is left out itself.
LOCK_IMAGE = $(BIN)/uv pip compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
	--constraint requirements/dev.lock --no-annotate --no-header --quiet

lock: setup ## resolve pyproject.toml into requirements/*.lock from scratch, keeping the version of torch
	grep -E '^torch(vision)?==' requirements/dev.lock > $(VENV)/torch.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-header --quiet \
		--constraint $(VENV)/torch.txt --output-file requirements/dev.lock
	$(LOCK_IMAGE) --extra train --extra cloud --output-file requirements/train.lock pyproject.toml
	printf '%s\n' filelock fsspec jinja2 networkx setuptools sympy typing-extensions | $(LOCK_IMAGE) --extra predict \
		--extra cloud --override requirements/no-torch.txt --output-file requirements/predict.lock pyproject.toml -

ui: setup ## start a Prefect server with pools, deployments and two workers; print its address
	@$(BIN)/python -m flows.ops.local_server start --port $(UI_PORT)

ui-stop: setup ## stop what `make ui` started
	@$(BIN)/python -m flows.ops.local_server stop

deployments: setup ## create pools, deployments and automations on the server that PREFECT_API_URL names
	@$(BIN)/python -m flows.ops.pools $(ARGS)

e2e: setup ## test deployed runs on real servers and workers, with faults: 15 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/e2e -m "slow or not slow" $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/core tests/flows -m slow $(ARGS)

month: setup ## run 30 deployed nights, with exhausted quotas, faults, rejections and alarms among them
	$(BIN)/python -m tests.bench.month $(ARGS)

image: ## build the images mnist-nightly:predict and :train with docker or buildah (IMAGE_ARGS: its arguments)
	@IMAGE_ARGS='$(IMAGE_ARGS)' BASE='$(BASE)' infra/image.sh

image-check: setup ## run the built images as user 10001 with a read-only root (ARGS="predict", "--tree")
	@$(BIN)/python -m infra.image_check $(ARGS)

cloud-check: setup ## apply, plan again and destroy the Terraform code against moto on this machine; test the pools
	@$(BIN)/python -m infra.cloud_check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/infra/test_pools.py

deploy: setup ## deploy this commit to AWS: images, Terraform, pools, deployments, a smoke test (infra/README.md)
	@infra/deploy.sh

clean: ## remove .venv and caches; keep versions and history (MNIST_HOME)
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache .hypothesis
