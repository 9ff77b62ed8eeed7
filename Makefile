# The front door: `make help` lists what there is. Cargo finds out by itself what has to be built again.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

# Tests mostly wait for each other's servers, so more of them run at once than there are cores.
export RUST_TEST_THREADS ?= 8
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PYTHON ?= python3
# What checks openapi.yaml, apart from the tools for AWS, which are strict about what they share.
API_VENV := .venv-api
# What takes the pictures, apart for the same reason.
PICTURES_VENV := .venv-pictures

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: run
run: ## Build the relay, start it on this machine, and show what to try
	@$(CARGO) build --locked --profile local -p relay-local
	exec $(TARGET)/local/relay-local

.PHONY: relayctl
relayctl: ## Build relayctl, the operator's program, into target/local
	$(CARGO) build --locked --profile local -p relayctl

.PHONY: test
test: format-check lint docs unit keys clients api lint-template papers test-aws guards ## Everything that must pass: formatting, clippy, docs, all tests

.PHONY: format-check
format-check: ## Is everything formatted?
	$(CARGO) fmt --all --check

.PHONY: format
format: ## Format everything
	$(CARGO) fmt --all

.PHONY: lint
lint: ## Clippy, warnings being errors
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p relay-tests --test lambda --test binaries -- -D warnings

.PHONY: docs
docs: ## Build the docs, warnings being errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

.PHONY: unit
unit: ## All tests, the end-to-end ones included
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked --workspace

.PHONY: keys
keys: ## A second program derives the published keys of events, from their description alone
	$(PYTHON) tests/fixtures/event_keys/derive.py

.PHONY: clients
clients: ## The official Loops client and a public signer of webhooks, through the relay (needs Node)
	$(CARGO) build --locked -p relay-local
	@cmp -s tools/loops-sdk/package-lock.json tools/loops-sdk/node_modules/installed.json || {
	  npm ci --prefix tools/loops-sdk --no-audit --no-fund
	  cp tools/loops-sdk/package-lock.json tools/loops-sdk/node_modules/installed.json
	}
	cd tools/loops-sdk && RELAY_LOCAL="$(abspath $(TARGET))/debug/relay-local" npm test --silent

.PHONY: api
api: ## openapi.yaml and the relay say the same: schemathesis, the same cases each time
	$(CARGO) build --locked -p relay-local
	@cmp -s tools/openapi/requirements.txt $(API_VENV)/installed.txt || {
	  $(PYTHON) -m venv --clear $(API_VENV)
	  $(API_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tools/openapi/requirements.txt
	  cp tools/openapi/requirements.txt $(API_VENV)/installed.txt
	}
	$(API_VENV)/bin/python tools/openapi/check.py $(TARGET)/debug/relay-local

.PHONY: faults
faults: venv ## Both forms of the relay go through every fault; one table of what was lost, doubled or out of order (SEED=…)
	$(CARGO) build --locked --workspace
	RELAY_FUNCTIONS="$${RELAY_FUNCTIONS:-$(abspath $(TARGET))/debug}" \
	  tools/aws-emulator/with-emulator $(TARGET)/debug/chaos $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)") $(FORM)

.PHONY: backlog
backlog: ## In simulated time: fifty thousand events for each end, and an end that is down for three days
	$(CARGO) test --locked -p relay-tests --test simulation -- --ignored --nocapture

.PHONY: bursts
bursts: venv ## A thousand rows at once, through both forms of the relay: how they are answered, and when Loops has them
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked -p relay-tests --test local -- --ignored --nocapture contract::pace
	RELAY_FUNCTIONS="$${RELAY_FUNCTIONS:-$(abspath $(TARGET))/debug}" \
	  tools/aws-emulator/with-emulator $(CARGO) test --locked -p relay-tests --test lambda -- --ignored --nocapture contract::pace

.PHONY: bench
bench: ## Microseconds and allocations for cleaning a row and deriving its key
	$(CARGO) bench --locked -p relay-core --bench rows

.PHONY: deny
deny: ## Licences, sources and banned crates (needs cargo-deny)
	$(CARGO) deny --locked check bans licenses sources

.PHONY: advisories
advisories: ## Known flaws of dependencies (needs cargo-deny, and the network)
	$(CARGO) deny --locked check advisories

.PHONY: clean
clean: ## Remove what was built; the data folder stays
	$(CARGO) clean

# --- On AWS. The tools come from .venv and nowhere else, so everybody has the versions that were tried.

VENV := .venv
IN_VENV := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" SAM_CLI_TELEMETRY=0
# The processor to build for; the template's parameter Architecture must say the same.
ARCH ?= arm64
FUNCTIONS := loops-to-clay clay-to-loops-contact clay-to-loops-event clay-delivery loops-delivery

.PHONY: venv
venv: ## Install the tools for AWS into .venv, where their list has changed
	@if ! cmp -s tools/aws-emulator/requirements.txt $(VENV)/installed.txt; then
	  $(PYTHON) -m venv --clear $(VENV)
	  $(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tools/aws-emulator/requirements.txt
	  cp tools/aws-emulator/requirements.txt $(VENV)/installed.txt
	fi

.PHONY: build
build: venv ## Build the functions for Lambda (ARCH=arm64 or x86_64)
	@case $(ARCH) in arm64|x86_64) ;; *) echo "ARCH must be arm64 or x86_64" >&2; exit 2 ;; esac
	$(IN_VENV) $(CARGO) lambda build --locked --release --$(subst _,-,$(ARCH)) $(FUNCTIONS:%=--bin %)

# --- Size and start. The functions are built as they are deployed (`cargo lambda`: its linker, its processor flags), for
# the processor of this machine, so what is measured is what runs on Lambda but for the processor.

# With functions that do nothing, for comparison.
MEASURED := $(FUNCTIONS) bare-function bare-threaded
RELEASED := $(TARGET)/x86_64-unknown-linux-gnu/release

.PHONY: functions
functions: venv ## Build the functions for measuring and guarding: released, for this machine, and zipped
	$(IN_VENV) $(CARGO) lambda build --locked --release --x86-64 --output-format zip --lambda-dir $(TARGET)/measured $(MEASURED:%=--bin %)
	.venv/bin/python tools/aws-emulator/resolve_template.py template.yaml $(TARGET)/measured/template.json

.PHONY: test-aws
test-aws: functions ## Run the functions as Lambda does, as the template describes them, against emulated services
	RELAY_FUNCTIONS="$(abspath $(RELEASED))" tools/aws-emulator/with-emulator $(CARGO) test --locked -p relay-tests --test lambda

.PHONY: size
size: functions ## What each function weighs and costs, beside one that does nothing; an error where it is over the budget
	$(CARGO) run --locked -p relay-measure --bin bench-size -- $(RELEASED) $(TARGET)/measured $(TARGET)/measured/template.json $(RUNS)

.PHONY: cost
cost: venv ## Count what each kind of request needs of AWS, and write docs/cost.md from it
	$(CARGO) build --locked --workspace
	RELAY_FUNCTIONS="$(abspath $(TARGET))/debug" tools/aws-emulator/with-emulator $(TARGET)/debug/measure-cost docs/cost-measured.json
	$(VENV)/bin/python tools/cost/cost_page.py

.PHONY: cost-page
cost-page: venv ## Write docs/cost.md anew, after a price, an alarm or the table of sizes has changed
	$(VENV)/bin/python tools/cost/cost_page.py

.PHONY: papers
papers: venv ## Is what the papers say so? Cost, links, versions, the targets that the workflow calls
	$(VENV)/bin/python tools/cost/cost_page.py --check
	$(VENV)/bin/python tools/docs-check/check.py
	$(VENV)/bin/python tools/docs-check/check_fails.py

.PHONY: pictures
pictures: venv ## Run setup, doctor and dead-letters on a terminal and an emulated AWS, and draw docs/images from it
	$(CARGO) build --locked --workspace
	@cmp -s tools/screenshots/requirements.txt $(PICTURES_VENV)/installed.txt || {
	  $(PYTHON) -m venv --clear $(PICTURES_VENV)
	  $(PICTURES_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tools/screenshots/requirements.txt
	  cp tools/screenshots/requirements.txt $(PICTURES_VENV)/installed.txt
	}
	RELAY_FUNCTIONS="$(abspath $(TARGET))/debug" \
	  tools/aws-emulator/with-emulator $(PICTURES_VENV)/bin/python tools/screenshots/take.py $(TARGET)/debug docs/images

.PHONY: guards
guards: functions ## Do the functions read no certificate authorities, gather no entropy, and bring along no second TLS stack?
	RELAY_FUNCTIONS="$(abspath $(RELEASED))" RELAY_TEMPLATE="$(abspath $(TARGET))/measured/template.json" \
	  $(CARGO) test --locked -p relay-tests --test binaries

.PHONY: arm64
arm64: venv ## Do the functions build for arm64, and does each take an event there? (under emulation)
	tools/aws-emulator/test-arm64 $(TARGET)

.PHONY: lint-template
lint-template: venv ## Is the template sound? Warnings are errors
	$(IN_VENV) sam validate --region us-east-1
	$(IN_VENV) sam validate --lint --region us-east-1
	$(IN_VENV) cfn-lint template.yaml
	$(IN_VENV) python tools/aws-emulator/resolve_template.py template.yaml - >/dev/null
	$(IN_VENV) python -m doctest tools/aws-emulator/sam_overrides.py

.PHONY: deploy
deploy: venv ## Build and deploy the stack (the first time: make deploy GUIDED=1; PARAMETERS="AlarmEmail=… LoopsRatePerSecond=4")
	$(IN_VENV) sam build --parameter-overrides Architecture=$(ARCH)
	overrides="$$($(VENV)/bin/python tools/aws-emulator/sam_overrides.py $(ARCH) $(foreach word,$(PARAMETERS),'$(word)'))"
	export $(IN_VENV)
	eval "sam deploy --parameter-overrides $$overrides $(if $(GUIDED),--guided)"

.PHONY: invoke
invoke: venv ## Hand an event to a function that runs here: FUNCTION=clay-to-loops-event EVENT=events/….json
	@$(if $(and $(FUNCTION),$(EVENT)),,echo "usage: make invoke FUNCTION=… EVENT=events/….json" >&2; exit 2)
	$(IN_VENV) $(CARGO) lambda invoke $(FUNCTION) --invoke-address 127.0.0.1 --data-file $(EVENT)

.PHONY: dev-lambda
dev-lambda: venv ## Run the functions on this machine: the three routes on 127.0.0.1:9000, AWS and both ends simulated
	@$(CARGO) build --locked --workspace
	$(IN_VENV) exec .venv/bin/python tools/aws-emulator/run_lambda.py $(TARGET)/debug/relay-local

.PHONY: logs
logs: venv ## Follow the logs of the deployed stack
	$(IN_VENV) sam logs --tail

.PHONY: delete
delete: venv ## Delete the deployed stack, with its secrets, and with what waits in its queues
	$(IN_VENV) sam delete
