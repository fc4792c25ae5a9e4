SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Ansible passes over a configuration in a directory that everybody may write to, and takes that of ANSIBLE_CONFIG before it.
PLAYBOOK := ANSIBLE_CONFIG=$(CURDIR)/ansible.cfg ansible-playbook
# Variables of the build, such as ARGS="-e codex_workspace_base_source=bootstrap".
ARGS ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.locked: requirements.txt scripts/venv.sh
	scripts/venv.sh $(VENV)

.PHONY: venv
venv: $(VENV)/.locked ## Make the controller's environment in .venv from the locked requirements

.PHONY: engine
engine: venv ## Find a Docker engine, or install and start Debian's
	$(PLAYBOOK) playbooks/engine.yml $(ARGS)

.PHONY: engine-stop
engine-stop: venv ## Stop an engine that `make engine` started in the background
	$(PLAYBOOK) playbooks/engine.yml -e codex_workspace_engine_state=stopped

.PHONY: build
build: venv ## Build, check and tag codex-workspace:latest
	$(PLAYBOOK) build.yml $(ARGS)

.PHONY: lint
lint: venv ## Run every linter and type checker
	scripts/lint.sh

.PHONY: unit
unit: venv ## Run the unit tests: no engine needed
	pytest -n auto tests/unit

.PHONY: demo
demo: build ## Send the image an A2A message, with a stand-in for the model
	scripts/demo.sh

.PHONY: e2e
e2e: build ## Run the application on the real codex of the image, outside a container
	scripts/e2e.sh

.PHONY: image-test
image-test: build ## Check the built image against its contract
	pytest tests/image

.PHONY: build-test
build-test: build ## Break the build in every known way, and see it refuse
	pytest tests/build

.PHONY: molecule
molecule: engine ## Apply the role to containers of Debian 13 and 12, destroy to destroy
	scripts/molecule.sh

.PHONY: fresh
fresh: engine ## Follow the README on a fresh Debian 13 that has root, Python, git and make alone
	scripts/molecule.sh fresh

.PHONY: molecule-vm
molecule-vm: engine ## Make disposable hosts of Debian 13 and 12 workspaces over SSH, destroy to destroy
	scripts/molecule.sh vm

.PHONY: molecule-t4
molecule-t4: build ## Run the conformance gate on a disposable host, and see it notice broken images
	scripts/molecule.sh t4

.PHONY: conformance
conformance: build ## Make a disposable T4 host, run the conformance gate on it, and remove it
	scripts/molecule.sh t4 converge

.PHONY: test
test: ## Run the tests, as CI does
	scripts/test.sh

.PHONY: test-all
test-all: ## Run every test there is: what `test` runs, and what takes longer than CI may
	scripts/test.sh all

.PHONY: bench
bench: build ## Compare this build with a plain Dockerfile, and measure turns, boot, memory and runs over SSH
	bench/run.py $(ARGS)
	bench/turns.py
	bench/hosts.py

.PHONY: lock
lock: ## Compile the requirements anew, with hashes
	uv pip compile --universal --python-version 3.11 --generate-hashes --quiet --custom-compile-command "make lock" --upgrade files/app/requirements.in --output-file files/app/requirements.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --quiet --custom-compile-command "make lock" --upgrade requirements.in --output-file requirements.txt

.PHONY: clean
clean: ## Remove the environment, caches, and the images of this repository
	scripts/clean.sh
