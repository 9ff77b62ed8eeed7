# The front door: `make help` lists what there is. Cargo finds out by itself what has to be built again.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

# Tests mostly wait for each other's servers, so more of them run at once than there are cores.
export RUST_TEST_THREADS ?= 8
CARGO ?= cargo

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: run
run: ## Build the relay, start it on this machine, and show what to try
	@$(CARGO) build --locked --profile local -p relay-local
	exec target/local/relay-local

.PHONY: test
test: format-check lint docs unit ## Everything that must pass: formatting, clippy, docs, all tests

.PHONY: format-check
format-check: ## Is everything formatted?
	$(CARGO) fmt --all --check

.PHONY: format
format: ## Format everything
	$(CARGO) fmt --all

.PHONY: lint
lint: ## Clippy, warnings being errors
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: docs
docs: ## Build the docs, warnings being errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

.PHONY: unit
unit: ## All tests, the end-to-end ones included
	$(CARGO) build --locked -p relay-local
	$(CARGO) test --locked --workspace

.PHONY: deny
deny: ## Licences, sources and banned crates (needs cargo-deny)
	$(CARGO) deny --locked check bans licenses sources

.PHONY: clean
clean: ## Remove what was built; the data folder stays
	$(CARGO) clean
