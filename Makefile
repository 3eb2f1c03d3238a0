# Every task of a developer and of CI. Needs git, make, and a Python with pip; fetches the rest itself.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements-uv.txt)
PYTHON_VERSION := 3.13
# Of the operator's program, which is installed without this Makefile.
OLDEST_PYTHON := 3.12
VENV := .venv
PYTHON := $(VENV)/bin/python
PYTEST := $(PYTHON) -m pytest
# sam build wants this Python, with pip, first on PATH.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Compiled once, and not beside the sources: sam build packages what lies there.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.local/pycache
export SAM_CLI_TELEMETRY := 0

# Which tests go together, tests/conftest.py says. More processes than cores, because those with a stack wait half of their time.
IN_PARALLEL := --numprocesses 4 --dist loadscope --no-loadscope-reorder

INSTALLED := $(VENV)/.installed
COMPILED := .local/pycache/.compiled
MINISTACK_INSTALLED := .venv-ministack/.installed
BENCH_INSTALLED := .venv-bench/.installed
REVIEW_INSTALLED := .venv-review/.installed
CDK_INSTALLED := .venv-cdk/.installed
SPARK_INSTALLED := .venv-spark/.installed

##@ Start here
.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: $(INSTALLED) $(MINISTACK_INSTALLED) ## Deploy locally, send recorded batches, show their rows, clean up: make demo [FRONT_DOOR=HTTP_API] [DOWNSTREAM=1] [RECONCILE=1]
	@$(PYTHON) -m demo

.PHONY: test
test: $(INSTALLED) $(MINISTACK_INSTALLED) $(COMPILED) ## Run the tests: unit, integration, e2e (needs PostgreSQL 15 or newer)
	@$(PYTHON) -m local_aws.postgres
	@$(PYTEST) $(IN_PARALLEL) tests/e2e tests/integration tests/unit

##@ Develop
.PHONY: install
install: $(INSTALLED) ## Set up .venv; the other environments come with the target that needs them

.PHONY: install-all
install-all: $(INSTALLED) $(MINISTACK_INSTALLED) $(REVIEW_INSTALLED) ## Set up the environments that .ci/run needs, before targets run beside each other

.PHONY: check
check: $(INSTALLED) $(REVIEW_INSTALLED) ## Lint, types, template, and what `make generate` would write; writes nothing
	@$(VENV)/bin/ruff check --no-cache .
	@$(VENV)/bin/ruff format --no-cache --check .
	@$(VENV)/bin/mypy --cache-dir=/dev/null
	@$(VENV)/bin/mypy --cache-dir=/dev/null --python-version $(OLDEST_PYTHON) bird_webhooks
	@$(PYTHON) -m maintain.generate --check
	@$(PYTHON) -m maintain.check_template
	@$(PYTHON) -m maintain.review_template

.PHONY: format
format: $(INSTALLED) ## Lay out the code and fix what ruff can fix
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

.PHONY: test-unit
test-unit: $(INSTALLED) ## Pure modules, template and documents; no sockets
	@$(PYTEST) $(IN_PARALLEL) tests/unit

.PHONY: test-integration
test-integration: $(INSTALLED) ## Handlers against a local S3 and PostgreSQL (needs PostgreSQL 15 or newer)
	@$(PYTHON) -m local_aws.postgres
	@$(PYTEST) $(IN_PARALLEL) tests/integration

.PHONY: test-e2e
test-e2e: $(INSTALLED) $(MINISTACK_INSTALLED) ## The built template, deployed to the local AWS (needs PostgreSQL 15 or newer)
	@$(PYTHON) -m local_aws.postgres
	@$(PYTEST) $(IN_PARALLEL) tests/e2e

.PHONY: test-bench
test-bench: $(INSTALLED) $(MINISTACK_INSTALLED) $(BENCH_INSTALLED) ## The benchmark runs and has all its rows (needs Linux, PostgreSQL 15 or newer)
	@$(PYTHON) -m local_aws.postgres
	@$(PYTEST) tests/bench

.PHONY: test-faults
test-faults: $(INSTALLED) $(MINISTACK_INSTALLED) ## Each fault of docs/reliability.md, the simulator's ledger as judge; steady load
	@$(PYTEST) tests/faults

.PHONY: drill
drill: $(INSTALLED) $(MINISTACK_INSTALLED) ## Each fault that the person on call meets: first sign, alarm, steps of the runbook, ledger (needs PostgreSQL 15 or newer)
	@$(PYTHON) -m local_aws.postgres
	@$(PYTEST) tests/drill

.PHONY: test-browser
test-browser: $(INSTALLED) ## The report in a headless Chromium (Debian: apt-get install chromium chromium-driver)
	@$(PYTEST) tests/browser

.PHONY: trino
trino: $(INSTALLED) ## Fetch the Trino of test-trino into ~/.cache/bird-webhooks, if it is not there
	@$(PYTHON) -m local_aws.trino

.PHONY: test-trino
test-trino: trino $(MINISTACK_INSTALLED) ## What users ask Athena, asked of a real Trino (needs Java 24 or newer, Maven, PostgreSQL 15 or newer)
	@$(PYTHON) -m local_aws.postgres
	@$(PYTEST) tests/trino

# Their packages have no pg_dump, so what needs one is asked of the machine's PostgreSQL only.
.PHONY: test-postgres-versions
test-postgres-versions: $(INSTALLED) ## load_postgres and all SQL on PostgreSQL 15 to 18 (needs x86-64 Linux and npm): make test-postgres-versions [VERSIONS=16]
	@cd local_aws/postgres_versions && npm ci --ignore-scripts --no-audit --no-fund --silent
	@for version in $(or $(VERSIONS),15 16 17 18); do \
	  package=$(CURDIR)/local_aws/postgres_versions/node_modules/postgres-$$version; \
	  (cd $$package && node scripts/hydrate-symlinks.js) && "$$package/native/bin/postgres" --version && \
	  POSTGRES_PROGRAMS=$$package/native/bin $(PYTEST) $(IN_PARALLEL) tests/integration/test_load_postgres.py \
	    tests/integration/test_postgres_connection.py tests/integration/test_postgres_guest.py \
	    tests/integration/test_postgres_identity.py tests/integration/test_sql.py tests/integration/test_suppression.py \
	    --deselect tests/integration/test_load_postgres.py::test_a_restored_dump_gives_back_nobody_who_was_erased \
	    || exit 1; done

.PHONY: test-cdk
test-cdk: $(INSTALLED) $(CDK_INSTALLED) ## The CDK snippets of docs/terraform-and-cdk.md, synthesised (needs node 22 or newer)
	@$(PYTEST) tests/cdk

.PHONY: test-spark
test-spark: $(INSTALLED) $(SPARK_INSTALLED) ## Spark reads the lake's folders by path as DuckDB does (needs Java 17 or newer)
	@$(PYTEST) tests/spark

.PHONY: test-container
test-container: $(INSTALLED) ## ingest and process through `sam local invoke` (needs a container engine)
	@$(PYTEST) tests/container

.PHONY: test-nightly
test-nightly: $(INSTALLED) ## What takes too long for every change: thousands of invented inputs, all views on Trino, PostgreSQL 15 to 18, fifteen minutes of steady load
	@$(PYTEST) $(IN_PARALLEL) --hypothesis-profile nightly tests/unit
	@NIGHTLY=1 $(MAKE) test-trino
	@NIGHTLY=1 $(MAKE) test-container
	@NIGHTLY=1 $(MAKE) test-bench
	@NIGHTLY=1 $(PYTEST) tests/faults
	@NIGHTLY=1 $(PYTEST) $(IN_PARALLEL) tests/e2e tests/integration
	@$(MAKE) test-postgres-versions
	@$(MAKE) soak

.PHONY: bench
bench: $(INSTALLED) $(MINISTACK_INSTALLED) $(BENCH_INSTALLED) build ## Measure us beside the alternatives (needs Linux, PostgreSQL 15 or newer): make bench [ONLY=process,files] [QUICK=1]
	@.venv-bench/bin/python -m benchmarks

.PHONY: generate
generate: $(INSTALLED) ## After adding a column, a view, a type or an alarm: write every copy of it
	@$(PYTHON) -m maintain.generate

.PHONY: lock
lock: ## Pin the dependency groups of pyproject.toml, newest versions, in requirements-*.txt
	@$(find_uv); for group in dev ministack review bench cdk spark uv; do \
	  if [ $$group = dev ]; then program=pyproject.toml; else program=; fi; \
	  "$$uv" pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --python-version $(PYTHON_VERSION) \
	    --custom-compile-command 'make lock' --group pyproject.toml:$$group $$program -o requirements-$$group.txt; done

##@ Run
.PHONY: build
build: $(INSTALLED) ## Build the functions into .aws-sam, compiled
	@$(PYTHON) -m local_aws build

.PHONY: sar
sar: $(INSTALLED) ## Make, package and check the template for the Serverless Application Repository: make sar [BUCKET=...]
	@$(PYTHON) -m maintain.sar

.PHONY: local
local: $(INSTALLED) $(MINISTACK_INSTALLED) ## Deploy to a local AWS and leave it running; outputs in .local/outputs.json
	@$(PYTHON) -m local_aws up

.PHONY: local-down
local-down: $(INSTALLED) ## End what `make local` started
	@$(PYTHON) -m local_aws down

.PHONY: load
load: $(INSTALLED) $(MINISTACK_INSTALLED) ## 2,000 batches over 16 connections to a local stack with faults on; the ledger has to close
	@$(PYTHON) -m local_aws.load load $(ARGS)

.PHONY: soak
soak: $(INSTALLED) $(MINISTACK_INSTALLED) ## Steady load for MINUTES (15), the memory of the functions shown
	@$(PYTHON) -m local_aws.load soak --minutes $(or $(MINUTES),15) $(ARGS)

.PHONY: invoke-ingest
invoke-ingest: $(INSTALLED) ## Run ingest in a container: make invoke-ingest EVENT=events/...
	@$(PYTHON) -m local_aws.invoke ingest $(EVENT)

.PHONY: invoke-process
invoke-process: $(INSTALLED) ## Run process in a container: make invoke-process EVENT=events/...
	@$(PYTHON) -m local_aws.invoke process $(EVENT)

.PHONY: clean
clean: ## Remove what was built; the environments stay
	@rm -rf .aws-sam .local .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find functions bird_webhooks local_aws maintain demo benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# --- Setting up -----------------------------------------------------------------------------------------------------
# A stamp in each environment, newer than its requirements, says that it is up to date.

# The first Python that works and has pip: a pyenv shim may be there for a Python that is not.
define find_python
python=; for name in python3 python$(PYTHON_VERSION) python3.14 python3.12 python3.11 python3.10 python3.9 /usr/bin/python3 python; do \
  if "$$name" -m pip --version >/dev/null 2>&1; then python=$$name; break; fi; done; \
[ -n "$$python" ] || { echo "make: no Python with pip found: install Python 3.9 or later and its pip" >&2; exit 1; }
endef

# uv, from PATH, or by pip and by its hash into .tools; it then asks the package index that pip is set up for, and trusts whom the
# system trusts, as behind a company's proxy (the second name is that of older versions).
define find_uv
uv=$$(command -v uv || true); \
if [ -z "$$uv" ]; then uv=$(CURDIR)/.tools/uv-$(UV_VERSION)/bin/uv; fi; \
if [ ! -x "$$uv" ]; then $(find_python); echo "==> getting uv $(UV_VERSION)"; \
  "$$python" -m pip install -qq --disable-pip-version-check --target .tools/uv-$(UV_VERSION) \
    --require-hashes --only-binary :all: -r requirements-uv.txt \
    || { echo "make: pip could not install uv $(UV_VERSION): is a package index reachable?" >&2; exit 1; }; fi; \
export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1; if [ -n "$$PIP_INDEX_URL" ] && [ -z "$$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX="$$PIP_INDEX_URL"; fi
endef

# $(call environment,directory,requirements,command): an environment that holds exactly those packages; then the command.
define environment
@$(find_uv); \
echo "==> installing $(2) into $(1)"; \
"$$uv" venv --quiet --no-project --allow-existing --python $(PYTHON_VERSION) $(1) \
  || { echo "make: Python $(PYTHON_VERSION) is neither installed nor could uv fetch it" >&2; exit 1; }; \
"$$uv" pip sync --quiet --python $(1)/bin/python $(2) \
  || { echo "make: the packages of $(2) could not be installed" >&2; exit 1; }; \
$(3) \
  || { echo "make: $(1) could not be made to find this repository's packages" >&2; exit 1; }; \
touch $(1)/.installed
endef

# With the program `bird-webhooks`, which finds its packages in this folder.
editable = "$$uv" pip install --quiet --no-deps --no-build-isolation --python $(VENV)/bin/python --editable .
# Where only modules are run.
importable = printf '%s\n' '$(CURDIR)' '$(CURDIR)/functions' >$(1)/lib/python$(PYTHON_VERSION)/site-packages/bird-webhooks.pth

$(INSTALLED): requirements-dev.txt pyproject.toml
	$(call environment,$(VENV),$<,$(editable))

$(MINISTACK_INSTALLED): requirements-ministack.txt
	$(call environment,.venv-ministack,$<,$(call importable,.venv-ministack))

$(BENCH_INSTALLED): requirements-bench.txt
	$(call environment,.venv-bench,$<,$(call importable,.venv-bench))

$(REVIEW_INSTALLED): requirements-review.txt
	$(call environment,.venv-review,$<,true)

$(CDK_INSTALLED): requirements-cdk.txt
	$(call environment,.venv-cdk,$<,true)

$(SPARK_INSTALLED): requirements-spark.txt
	$(call environment,.venv-spark,$<,true)

# Tests and what they import as bytecode: each of the processes of `make test` would compile all of it, 13 s of processor
# time. What cannot be imported, the tests say.
$(COMPILED): $(INSTALLED)
	@echo "==> compiling tests"
	@for tests in tests/unit "tests/e2e tests/integration"; do \
	  $(PYTEST) --collect-only --quiet $$tests >/dev/null 2>&1 & done; wait
	@mkdir -p $(@D) && touch $@
