# `make help` lists the targets.

# macOS brings version 3.81, which would read the recipes line by line.
ifeq ($(filter oneshell,$(.FEATURES)),)
$(error GNU make 4 or newer is needed; on macOS: brew install make, then gmake instead of make)
endif

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

# Tests mostly wait for servers, so more of them run at once than there are cores.
export RUST_TEST_THREADS ?= 8
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PYTHON ?= python3
# The checker of openapi.yaml has its own environment, because the tools for AWS pin packages that both need.
OPENAPI_VENV := .venv-openapi
# So has the program that draws the screenshots.
SCREENSHOTS_VENV := .venv-screenshots
# And so has the peer in Python that relay-local is measured beside.
BENCH_VENV := .venv-bench
# And so has the Loops client in Python, which needs a newer one than the rest.
SDK_VENV := .venv-sdks

# The tools for AWS always come from .venv, in the versions that were tested.
VENV := .venv
IN_VENV := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" SAM_CLI_TELEMETRY=0
# The processor to build for; the template's parameter Architecture must have the same value.
ARCH ?= arm64
# What SAM asked and saved is in a file that git ignores.
SAVED_CONFIG := samconfig.local.toml
SAM_CONFIG = $(CURDIR)/$(or $(wildcard $(SAVED_CONFIG)),samconfig.toml)
FUNCTIONS := loops-to-clay clay-to-loops-contact clay-to-loops-event clay-to-loops-api clay-delivery loops-delivery
# For sizes and checks, the functions are built as for deployment (`cargo lambda`: its linker, its processor flags), but
# for the processor of this machine; and, for comparison, functions that do nothing.
MEASURED := $(FUNCTIONS) bare-function bare-threaded core-steps
RELEASED := $(TARGET)/x86_64-unknown-linux-gnu/release
# Handlers that a user would write for the same job, measured beside the functions.
PEERS := tools/bench/peers

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Everyday

.PHONY: run
run: ## Build the relay, start it on this machine, and show what to try
	@$(CARGO) build --locked --profile local -p relay-local
	exec $(TARGET)/local/relay-local

.PHONY: dev-lambda
dev-lambda: tools ## Run the functions on this machine: all routes on 127.0.0.1:9000, AWS and both destinations simulated
	@$(CARGO) build --locked --workspace
	$(IN_VENV) exec $(VENV)/bin/python tools/aws-emulator/run_lambda.py $(TARGET)/debug/relay-local

.PHONY: relayctl
relayctl: ## Build relayctl, the CLI for operators, into target/local
	$(CARGO) build --locked --profile local -p relayctl

.PHONY: test
test: prerequisites check test-rust test-event-keys test-sdks test-console test-openapi lint-sam check-docs test-lambda bench-check ## Everything that must pass: the checks, and all tests

.PHONY: prerequisites
prerequisites: ## Install what the tests need besides Rust and a C compiler (Debian, Ubuntu), or name what is missing
	@PYTHON=$(PYTHON) tools/prerequisites

.PHONY: check
check: format-check lint rustdoc ## The quick checks: formatting, clippy, rustdoc

.PHONY: format-check
format-check: ## Check that everything is formatted
	$(CARGO) fmt --all --check

.PHONY: format
format: ## Format everything
	$(CARGO) fmt --all

.PHONY: lint
lint: ## Run clippy; warnings are errors
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p relay-tests --test lambda --test binaries -- -D warnings

.PHONY: rustdoc
rustdoc: ## Build rustdoc; warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

.PHONY: test-rust
test-rust: ## Run all Rust tests, the end-to-end ones on one machine included
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked --workspace

.PHONY: build
build: tools ## Build the functions for Lambda (ARCH=arm64 or x86_64)
	@case $(ARCH) in arm64|x86_64) ;; *) echo "ARCH must be arm64 or x86_64" >&2; exit 2 ;; esac
	$(IN_VENV) $(CARGO) lambda build --locked --release --$(subst _,-,$(ARCH)) $(FUNCTIONS:%=--bin %)

.PHONY: deploy
# As it was typed: make would replace what is behind a dollar sign.
deploy: export DEPLOY_PARAMETERS := $(value PARAMETERS)
deploy: tools ## Build and deploy the stack (the first time: make deploy GUIDED=1; PARAMETERS='AlarmEmail=… LoopsRatePerSecond=4')
	config="$(SAM_CONFIG)" parameters="$(CURDIR)/.aws-sam/parameters.toml"
	$(VENV)/bin/python tools/aws-emulator/deploy_parameters.py "$$config" $(ARCH) "$$parameters"
	export $(IN_VENV)
	sam build --parameter-overrides Architecture=$(ARCH)
	if [ -n "$(GUIDED)" ] && [ ! -e $(SAVED_CONFIG) ]; then
	  cp samconfig.toml $(SAVED_CONFIG)
	  config="$(CURDIR)/$(SAVED_CONFIG)"
	fi
	sam deploy --config-file "$$config" --parameter-overrides "file://$$parameters" $(if $(GUIDED),--guided)

.PHONY: invoke
invoke: tools ## Hand an event to a function that runs here: FUNCTION=clay-to-loops-event EVENT=events/….json
	@$(if $(and $(FUNCTION),$(EVENT)),,echo "usage: make invoke FUNCTION=… EVENT=events/….json" >&2; exit 2)
	$(IN_VENV) $(CARGO) lambda invoke $(FUNCTION) --invoke-address 127.0.0.1 --data-file $(EVENT)

.PHONY: logs
logs: tools ## Follow the logs of the deployed stack
	$(IN_VENV) sam logs --config-file "$(SAM_CONFIG)" --tail

.PHONY: delete
delete: tools ## Delete the deployed stack, with its secrets, and with what waits in its queues
	@echo "Deleting the stack deletes its secrets with the keys in them, what waits in its queues, its dead letters and its logs."
	@echo "AWS keeps a backup of the table for 35 days, and of the rest nothing. Save what you need first: docs/runbook.md#delete-a-stack"
	$(IN_VENV) sam delete --config-file "$(SAM_CONFIG)"

.PHONY: clean
clean: ## Remove what was built; the data folder stays
	$(CARGO) clean

##@ Parts of CI

ifeq ($(shell uname -s),Linux)
.PHONY: test-lambda
test-lambda: build-release-x86 ## Run the functions as Lambda does, as the template describes them, against emulated services
	RELAY_FUNCTIONS="$(abspath $(RELEASED))" tools/aws-emulator/with-emulator $(CARGO) test --locked -p relay-tests --test lambda

.PHONY: bench-check
# One after another: what a start cuts off after a second would count elsewhere.
bench-check: build-release-x86 ## Hold the budgets of tools/bench/budgets.toml, and check that functions read no certificate authorities and have one TLS stack
	RELAY_FUNCTIONS="$(abspath $(RELEASED))" RELAY_TEMPLATE="$(abspath $(TARGET))/measured/template.json" \
	  $(CARGO) test --locked -p relay-tests --test binaries -- --test-threads 1
	$(CARGO) build --locked -p relay-local -p relay-bench
	$(TARGET)/debug/relay-bench check tools/bench/budgets.toml --programs $(TARGET)/debug --work $(TARGET)/bench

.PHONY: test-console
test-console: console-tools ## Drive the console in Chromium, with what breaks, hostile names and strangers (needs Node)
	$(CARGO) build --locked -p relay-local -p relayctl
	cd tools/console && RELAY_LOCAL="$(abspath $(TARGET))/debug/relay-local" npm test --silent

.PHONY: screenshots-console
screenshots-console: console-tools
	$(CARGO) build --locked -p relay-local
	export RELAY_LOCAL="$(abspath $(TARGET))/debug/relay-local"
	node tools/console/screenshots.js docs/images
	node tools/console/film.js docs/images

.PHONY: console-tools
console-tools:
	@cmp -s tools/console/package-lock.json tools/console/node_modules/installed.json || {
	  npm ci --prefix tools/console --no-audit --no-fund
	  cp tools/console/package-lock.json tools/console/node_modules/installed.json
	}
else
# They run what is built for Lambda, trace it, and move its clock; and drive Debian's browser.
.PHONY: test-lambda bench-check test-console screenshots-console
test-lambda bench-check test-console screenshots-console:
	@echo "$@: skipped: needs Linux"
endif

.PHONY: check-docs
check-docs: tools ## Check the docs: cost, links, versions, limits, and that each line of doctor has its section
	$(VENV)/bin/python tools/cost/cost_page.py --check
	$(VENV)/bin/python tools/bench/functions_page.py --check
	$(VENV)/bin/python -m doctest tools/docs-check/check.py
	$(VENV)/bin/python tools/docs-check/check.py

.PHONY: lint-sam
lint-sam: tools ## Lint the template; warnings are errors
	$(IN_VENV) sam validate --region us-east-1
	$(IN_VENV) sam validate --lint --region us-east-1
	$(IN_VENV) cfn-lint template.yaml
	$(IN_VENV) python tools/aws-emulator/resolve_template.py template.yaml - >/dev/null
	$(IN_VENV) python -m doctest tools/aws-emulator/deploy_parameters.py tools/aws-emulator/alarms.py
	$(IN_VENV) python tools/aws-emulator/test_make.py

.PHONY: test-openapi
test-openapi: ## Check that openapi.yaml and the relay agree: schemathesis, the same cases each time
	$(CARGO) build --locked -p relay-local
	@cmp -s tools/openapi/requirements.txt $(OPENAPI_VENV)/installed.txt || {
	  $(PYTHON) -m venv --clear $(OPENAPI_VENV)
	  $(OPENAPI_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tools/openapi/requirements.txt
	  cp tools/openapi/requirements.txt $(OPENAPI_VENV)/installed.txt
	}
	$(OPENAPI_VENV)/bin/python tools/openapi/check.py $(TARGET)/debug/relay-local

.PHONY: test-sdks
test-sdks: ## Call the relay with the Loops clients for Node and Python, as those for Go do, and with a public webhook signer (needs Node)
	$(CARGO) build --locked -p relay-local
	@cmp -s tools/loops-sdk/package-lock.json tools/loops-sdk/node_modules/installed.json || {
	  npm ci --prefix tools/loops-sdk --no-audit --no-fund
	  cp tools/loops-sdk/package-lock.json tools/loops-sdk/node_modules/installed.json
	}
	PYLOOPS_PYTHON="$$(PYTHON=$(PYTHON) tools/loops-sdk/pyloops-venv $(abspath $(SDK_VENV)))"
	export PYLOOPS_PYTHON
	cd tools/loops-sdk && RELAY_LOCAL="$(abspath $(TARGET))/debug/relay-local" npm test --silent

.PHONY: test-event-keys
test-event-keys: ## Derive the published event keys with a second program, from their description alone
	$(PYTHON) tests/fixtures/event_keys/derive.py

.PHONY: test-arm64
test-arm64: tools ## Build the functions for arm64, and hand each one an event (under emulation)
	tools/aws-emulator/test-arm64 $(TARGET)

.PHONY: deny
deny: ## Check licences, sources and banned crates (needs cargo-deny)
	$(CARGO) deny --locked check bans licenses sources

.PHONY: advisories
advisories: ## Look for known flaws of dependencies (needs cargo-deny, and the network)
	$(CARGO) deny --locked check advisories

##@ Now and then

.PHONY: chaos
chaos: tools ## Inject every fault into both deployments; one table of what was lost, duplicated or reordered (SEED=…)
	$(CARGO) build --locked --workspace
	RELAY_FUNCTIONS="$${RELAY_FUNCTIONS:-$(abspath $(TARGET))/debug}" \
	  tools/aws-emulator/with-emulator $(TARGET)/debug/chaos --report $(TARGET)/chaos.json $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)") $(FORM)

.PHONY: chaos-publish
chaos-publish: ## Publish the last run of make chaos as docs/chaos.json, whose totals README.md shows
	cp $(TARGET)/chaos.json docs/chaos.json

.PHONY: test-examples
test-examples: ## Synthesise the CDK app of examples/, and check the form of the Terraform file (needs Node 20; downloads the CDK)
	npm ci --prefix examples/cdk --no-audit --no-fund --ignore-scripts
	npm test --prefix examples/cdk --silent
	if command -v terraform > /dev/null; then terraform -chdir=examples/terraform fmt -check -diff; else echo "terraform is not installed: not checked"; fi

.PHONY: soak
soak: ## In simulated time: fifty thousand events for each destination, and a destination that is down for three days
	$(CARGO) test --locked -p relay-tests --test simulation -- --ignored --nocapture

.PHONY: load-test
load-test: tools ## A thousand rows at once, through both deployments: how they are answered, and when Loops has them
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked -p relay-tests --test local -- --ignored --nocapture contract::rate_limit
	RELAY_FUNCTIONS="$${RELAY_FUNCTIONS:-$(abspath $(TARGET))/debug}" \
	  tools/aws-emulator/with-emulator $(CARGO) test --locked -p relay-tests --test lambda -- --ignored --nocapture contract::rate_limit

.PHONY: bench
bench: bench-peers ## Measure relay-local under load beside the same job in Node and Python; one run of tables, and target/bench/bench.json (QUICK=1)
	$(CARGO) build --locked --profile local -p relay-local -p relayctl -p relay-bench
	$(TARGET)/local/relay-bench run --programs $(TARGET)/local --work $(TARGET)/bench --uvicorn $(BENCH_VENV)/bin/uvicorn $(if $(QUICK),--quick)

.PHONY: bench-render
bench-render: ## Publish the last run of make bench: docs/bench.json, and the tables of docs/performance.md
	$(CARGO) build --locked --profile local -p relay-bench
	cp $(TARGET)/bench/bench.json docs/bench.json
	$(TARGET)/local/relay-bench render docs/bench.json docs/performance.md

.PHONY: bench-peers
bench-peers: ## Install the peers that make bench compares with
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { echo "make bench needs Node 20 or newer" >&2; exit 1; }
	cmp -s tools/bench/peers/node/package-lock.json tools/bench/peers/node/node_modules/installed.json || {
	  # better-sqlite3 is compiled, so that all have it from the same source: with the headers of this Node, if they are here.
	  node_dir=$$(node -p 'path.resolve(process.execPath, "../..")')
	  if [ -e "$$node_dir/include/node/node.h" ]; then export npm_config_nodedir="$$node_dir"; fi
	  npm_config_build_from_source=true npm ci --prefix tools/bench/peers/node --no-audit --no-fund
	  cp tools/bench/peers/node/package-lock.json tools/bench/peers/node/node_modules/installed.json
	}
	cmp -s tools/bench/peers/python/requirements.txt $(BENCH_VENV)/installed.txt || {
	  $(PYTHON) -m venv --clear $(BENCH_VENV)
	  $(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tools/bench/peers/python/requirements.txt
	  cp tools/bench/peers/python/requirements.txt $(BENCH_VENV)/installed.txt
	}

.PHONY: bench-functions
bench-functions: build-release-x86 ## Measure the functions beside bare ones and handlers in Node and Python, and write docs/performance.md from that (RUNS=25)
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { echo "make bench-functions needs Node 20 or newer" >&2; exit 1; }
	cmp -s $(PEERS)/lambda-node/package-lock.json $(PEERS)/lambda-node/node_modules/installed.json || {
	  # The runtime client compiles a library.
	  for tool in cmake autoconf automake libtoolize; do
	    command -v $$tool > /dev/null || { echo "make bench-functions needs cmake, autoconf, automake and libtool" >&2; exit 1; }
	  done
	  npm ci --prefix $(PEERS)/lambda-node --no-audit --no-fund
	  cp $(PEERS)/lambda-node/package-lock.json $(PEERS)/lambda-node/node_modules/installed.json
	}
	@cmp -s $(PEERS)/lambda-python/requirements.txt $(PEERS)/lambda-python/.venv/installed.txt || {
	  $(PYTHON) -m venv --clear $(PEERS)/lambda-python/.venv
	  $(PEERS)/lambda-python/.venv/bin/pip install --quiet --disable-pip-version-check --requirement $(PEERS)/lambda-python/requirements.txt
	  cp $(PEERS)/lambda-python/requirements.txt $(PEERS)/lambda-python/.venv/installed.txt
	}
	$(CARGO) run --locked -p relay-measure --bin bench-functions -- \
	  $(RELEASED) $(TARGET)/measured $(TARGET)/measured/template.json $(PEERS) docs/bench-functions.json $(RUNS)
	$(PYTHON) tools/bench/functions_page.py

.PHONY: cost-measure
cost-measure: tools ## Count what each kind of request needs of AWS, and write docs/cost.md from it
	$(CARGO) build --locked --workspace
	RELAY_FUNCTIONS="$(abspath $(TARGET))/debug" tools/aws-emulator/with-emulator $(TARGET)/debug/measure-cost docs/cost-measured.json
	$(VENV)/bin/python tools/cost/cost_page.py

.PHONY: cost-render
cost-render: tools ## Write docs/cost.md anew, after a price, an alarm or docs/bench-functions.json has changed
	$(VENV)/bin/python tools/cost/cost_page.py

.PHONY: screenshots
screenshots: tools screenshots-console ## Run setup, doctor and dead-letters on a terminal and an emulated AWS, and the console in Chromium, and draw docs/images from it
	$(CARGO) build --locked --workspace
	@cmp -s tools/screenshots/requirements.txt $(SCREENSHOTS_VENV)/installed.txt || {
	  $(PYTHON) -m venv --clear $(SCREENSHOTS_VENV)
	  $(SCREENSHOTS_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tools/screenshots/requirements.txt
	  cp tools/screenshots/requirements.txt $(SCREENSHOTS_VENV)/installed.txt
	}
	RELAY_FUNCTIONS="$(abspath $(TARGET))/debug" \
	  tools/aws-emulator/with-emulator $(SCREENSHOTS_VENV)/bin/python tools/screenshots/take.py $(TARGET)/debug docs/images

.PHONY: tools
tools: ## Install the tools for AWS into .venv, where their list has changed
	@if ! cmp -s tools/aws-emulator/requirements.txt $(VENV)/installed.txt; then
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
	    echo "Python 3.10 or newer is needed for the tools: make PYTHON=python3.12 …, or whatever yours is called" >&2
	    exit 1
	  }
	  $(PYTHON) -m venv --clear $(VENV)
	  $(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tools/aws-emulator/requirements.txt
	  cp tools/aws-emulator/requirements.txt $(VENV)/installed.txt
	fi

.PHONY: build-release-x86
build-release-x86: tools ## Build the functions for measuring and checking: released, for this machine, and zipped
	$(IN_VENV) $(CARGO) lambda build --locked --release --x86-64 --output-format zip --lambda-dir $(TARGET)/measured $(MEASURED:%=--bin %)
	$(VENV)/bin/python tools/aws-emulator/resolve_template.py template.yaml $(TARGET)/measured/template.json
