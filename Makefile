# Thin: every recipe is a line that a person can type with .venv/bin on PATH.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
ARGS ?=
BUNDLE ?=
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# A stamp carries the hash of its lock and of the folder: with both unchanged nothing is installed, else again.
RUNTIME := .venv/runtime-$(shell { pwd; cat requirements/runtime.txt; } | sha256sum | cut -c1-16)
TEST := .venv/test-$(shell { pwd; cat requirements/*.txt; } | sha256sum | cut -c1-16)
PIP := .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-compile --require-hashes

# Without a network: pip takes its packages from the bundle, and the first playbook everything else.
ifneq ($(BUNDLE),)
PLACE := $(shell realpath --canonicalize-missing -- '$(BUNDLE)')
ifeq ($(filter bundle,$(MAKECMDGOALS)),)
FROM := $(PLACE)
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := file://$(shell printf %s '$(FROM)' | sed 's/%/%25/g; s/ /%20/g')/wheels
endif
endif

.PHONY: help venv venv-test up report down bundle test lint format lock docs

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	echo "  Further arguments go in ARGS: make up ARGS='--check --diff'"
	echo "  Without a network: make up BUNDLE=/media/usb/appgate (docs/offline.md)"

venv: $(RUNTIME) ## Make .venv with what the playbooks need

venv-test: $(TEST) ## Make .venv with what the tests need as well

up: $(RUNTIME) ## Bring up the cluster and serve the app: ansible-playbook site.yml
	ansible-playbook $(if $(FROM),playbooks/bundle_install.yml site.yml -e 'bundle_path="$(FROM)"',site.yml) $(ARGS)

report: $(RUNTIME) ## Write a page about each cluster into build/reports: ansible-playbook playbooks/report.yml
	ansible-playbook playbooks/report.yml $(ARGS)

down: $(RUNTIME) ## Remove all that `make up` made: ansible-playbook playbooks/destroy.yml
	ansible-playbook playbooks/destroy.yml $(ARGS)

bundle: $(RUNTIME) ## Carry all that `make up` takes from outside into BUNDLE: ansible-playbook playbooks/bundle.yml
	ansible-playbook playbooks/bundle.yml -e 'bundle_path="$(PLACE)"' $(ARGS)

test: $(TEST) ## Lint, unit tests and every Molecule scenario, three files at a time: pytest -n 3 --dist loadfile --no-loadscope-reorder
	pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=15 $(ARGS)

lint: $(TEST) ## Only the linters: pytest tests/test_lint.py tests/test_house.py
	pytest tests/test_lint.py tests/test_house.py $(ARGS)

format: $(TEST) ## Format the Python code
	ruff check --fix . && ruff format .

docs: $(RUNTIME) ## Write each role's README from its argument_specs, and what else is generated: dashboards, docs/metrics.md, docs/images.md
	python scripts/role_docs.py $(ARGS)
	python -m observability.generate $(filter --check,$(ARGS))
	python scripts/images_docs.py $(filter --check,$(ARGS))

lock: $(TEST) ## Write requirements/*.txt from the groups in pyproject.toml
	scripts/lock.sh $(ARGS)

$(RUNTIME):
	@PYTHON=$(PYTHON) BUNDLE='$(FROM)' scripts/venv.sh
	echo "Installing the pinned requirements into .venv (one to two minutes, once)"
	$(PIP) --requirement requirements/runtime.txt
	rm -f .venv/runtime-* && touch $@

$(TEST): $(RUNTIME)
	@echo "Installing the pinned test requirements into .venv (about a minute, once)"
	$(PIP) --requirement requirements/runtime.txt --requirement requirements/test.txt
	rm -f .venv/test-* && touch $@
