# Two commands are enough: `make nightly` and `make test`. Each sets up what it needs, once.
# An empty variable counts as unset.
UI_PORT := $(or $(UI_PORT),4200)
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
.PHONY: help setup nightly test chaos fuzz check docs docs-reference bench bench-quick format lock lock-check ui \
	ui-stop deployments e2e month image image-check cloud-check actions-check deploy clean test-pythons compose compose-down \
	compose-backup compose-restore compose-check
.DEFAULT_GOAL := help

##@ To use it:

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / {print (n++ ? "\n" : "") substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install the packages into .venv (PYTHON, TORCH=cpu|cuda)
	@PYTHON='$(PYTHON)' TORCH='$(TORCH)' infra/setup.sh

nightly: setup ## run the job once, from data to score (ARGS=--dry-run)
	@$(BIN)/python -m flows nightly $(ARGS)

ui: setup ## start Prefect's UI, pools, schedule and workers here
	@$(BIN)/python -m flows.ops.local_server start --port $(UI_PORT)

ui-stop: ## stop what `make ui` started
	@test ! -x $(BIN)/python || $(BIN)/python -m flows.ops.local_server stop

compose: ## start or upgrade all of it with Docker Compose
	@infra/compose/compose.sh up

compose-down: ## stop what `make compose` started; its data stay
	@infra/compose/compose.sh down

compose-backup: ## copy its history and store (ARGS=FOLDER)
	@infra/compose/compose.sh backup $(ARGS)

compose-restore: ## fill an empty installation from a copy (ARGS=FOLDER)
	@infra/compose/compose.sh restore $(ARGS)

deployments: setup ## put pools and deployments on the server PREFECT_API_URL
	@$(BIN)/python -m flows.ops.pools $(ARGS)

image: ## build the two container images (BASE, IMAGE_ARGS)
	@IMAGE_ARGS='$(IMAGE_ARGS)' BASE='$(BASE)' infra/image.sh

deploy: ## deploy this commit to AWS (infra/README.md)
	@PYTHON= infra/deploy.sh

clean: ## remove .venv and caches; versions and history stay
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache .hypothesis

##@ To work on it (CONTRIBUTING.md):

check: setup ## check format, lint, types, spelling, files, documents
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/hadolint Dockerfile
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/python -m flows.ops.reference --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

# Four processes for two cores, since tests wait for servers; one thread each, since torch's threads spin. Each of
# the hundreds of Python processes compiles what has no bytecode.
test e2e chaos: export PYTHONDONTWRITEBYTECODE =
test: setup ## run the tests (ARGS="tests/core -k csv")
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(ARGS)

format: setup ## format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: setup ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-reference: setup ## generate configuration.md, cli.md and .env.example
	$(BIN)/python -m flows.ops.reference

e2e: setup ## test deployed runs on real servers: half an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/e2e -m "slow or not slow" $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests/core tests/flows -m slow $(ARGS)

month: setup ## run 30 deployed nights, with faults among them
	$(BIN)/python -m tests.bench.month $(ARGS)

chaos: setup ## kill nights at every call, inject every fault: an hour
	OMP_NUM_THREADS=1 CHAOS=all $(BIN)/python -m pytest --numprocesses 2 --dist load --timeout 3600 -rP \
		--log-disable prefect.flow_runs tests/flows/chaos $(ARGS)

fuzz: setup ## read a million damaged files: 20 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.core.fuzz $(ARGS)

bench: setup ## measure speed and scores (ARGS="--json FILE")
	$(BIN)/python -m tests.bench.bench $(ARGS)

bench-quick: setup ## measure the same in three minutes, from fewer runs
	$(BIN)/python -m tests.bench.bench --quick $(ARGS)

test-pythons: ## core tests and a night on Debian's Pythons, as root
	@infra/test-pythons.sh $(ARGS)

# The images' locks hold dev.lock's versions, with hashes. torch's own needs are named, where it is left out itself.
LOCK_IMAGE = $(BIN)/uv pip compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
	--constraint requirements/dev.lock --no-annotate --no-header --quiet

lock: setup ## resolve pyproject.toml again, except for torch
	grep -E '^torch(vision)?==' requirements/dev.lock > $(VENV)/torch.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-header --quiet \
		--constraint $(VENV)/torch.txt --output-file requirements/dev.lock
	$(LOCK_IMAGE) --extra train --extra cloud --extra explore --output-file requirements/train.lock pyproject.toml
	printf '%s\n' filelock fsspec jinja2 networkx setuptools sympy typing-extensions | $(LOCK_IMAGE) --extra predict \
		--extra cloud --extra scale --override requirements/no-torch.txt --output-file requirements/predict.lock pyproject.toml -

lock-check: setup ## resolve the locks for every Python and system
	@$(BIN)/python -m infra.lock_check

image-check: setup ## run the built images, read-only and not as root
	@$(BIN)/python -m infra.image_check $(ARGS)

compose-check: setup ## start, break and restore `make compose`: 12 minutes
	@$(BIN)/python -m infra.compose_check $(ARGS)

cloud-check: setup ## apply and destroy the Terraform code against moto
	@$(BIN)/python -m infra.cloud_check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/infra/test_pools.py

actions-check: setup ## run nights of the GitHub workflow here
	@$(BIN)/python -m infra.actions.check
