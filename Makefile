# Every chore by one word: `make help`.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run stop test check faults bench lock clean requirements requirements-dev requirements-clients port

VENV := .venv/bin/python
# The first Python of at least 3.11 that runs here.
PYTHON ?= $(shell for python in $(VENV) python3 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
# Tests and checks keep their embedded database apart from the one of `make run`.
APART := TOLLBOOK_VAR_DIR="$(CURDIR)/var/test"
WORKERS ?= 2
BENCH ?= ledger_alone relay

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: port requirements ## Start the gateway on PORT (8000) with a demo key and an admin log-in; Ctrl-C stops it
	@exec $(VENV) -m gateway.run

stop: requirements ## Stop a gateway or an embedded database that was left behind
	@$(VENV) -m gateway.run stop

test: requirements-dev requirements-clients ## Run the whole test suite on a real PostgreSQL; ARGS="-k limits" picks, WORKERS=4 splits
	@$(APART) TOLLBOOK_TEST_CLIENTS=required $(VENV) -m pytest -n $(WORKERS) $(ARGS); status=$$?; \
	$(APART) $(VENV) -m gateway.run stop >/dev/null; exit $$status

check: requirements-dev ## ruff, mypy, import-linter, missing migrations, and the ten largest files
	@failed=; \
	echo "ruff"; $(VENV) -m ruff check . || failed="$$failed ruff"; \
	echo "mypy"; $(APART) $(VENV) -m mypy gateway providers ledger || failed="$$failed mypy"; \
	echo "import-linter"; .venv/bin/lint-imports --no-logo || failed="$$failed import-linter"; \
	echo "migrations"; $(APART) $(VENV) manage.py makemigrations --check --dry-run || failed="$$failed migrations"; \
	echo "largest files"; find gateway providers ledger tests -name '*.py' -exec wc -l {} + | grep -v ' total$$' | sort -rn | head -10; \
	$(APART) $(VENV) -m gateway.run stop >/dev/null; \
	if [ -n "$$failed" ]; then echo "make check failed:$$failed" >&2; exit 1; fi

faults: requirements-dev ## Try to break the books, an hour long: kills, eaten commits, full disks, races; ARGS=--teeth, ARGS="--seed 7"
	@$(APART) $(VENV) -W ignore -m tests.faults $(ARGS)

bench: requirements ## Measure: BENCH="ledger_alone relay" picks from bench/, ARGS go to each (relay needs nginx and wrk)
	@for each in $(BENCH); do echo "bench/$$each.py"; $(VENV) bench/$$each.py $(ARGS) || exit 1; done

lock: ## Pin requirements*.in anew, with hashes (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/" >&2; exit 1; }
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes requirements.in -o requirements.txt
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes requirements-dev.in -o requirements-dev.txt
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes requirements-clients.in -o requirements-clients.txt

clean: ## Remove .venv, .venv-clients and caches; the ledger in var/ stays
	rm -rf .venv .venv-clients .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

port:
	@test -n "$(PYTHON)" || { echo "Tollbook needs Python 3.11 or newer." >&2; exit 1; }
	@PYTHONDONTWRITEBYTECODE=1 "$(PYTHON)" -m gateway.run check

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Tollbook needs Python 3.11 or newer." >&2; exit 1; }
	@echo "Making .venv..."
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; echo "python3 -m venv failed: on Debian, apt install python3-venv." >&2; exit 1; }

# pip runs when the list differs from the one installed last; a copy of that is the stamp.
requirements: .venv/bin/python
	@cmp -s requirements.txt .venv/requirements.txt || { echo "Installing requirements.txt..."; \
	$(VENV) -m pip install --quiet --disable-pip-version-check -r requirements.txt && cp requirements.txt .venv/requirements.txt; }

requirements-dev: requirements
	@cmp -s requirements-dev.txt .venv/requirements-dev.txt || { echo "Installing requirements-dev.txt..."; \
	$(VENV) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt && cp requirements-dev.txt .venv/requirements-dev.txt; }

# The clients that tests/clients/ runs; some pin what requirements-dev.txt has in newer versions.
requirements-clients: .venv/bin/python
	@test -x .venv-clients/bin/python || { echo "Making .venv-clients..."; \
	$(VENV) -m venv .venv-clients || { rm -rf .venv-clients; exit 1; }; }
	@cmp -s requirements-clients.txt .venv-clients/requirements.txt || { echo "Installing requirements-clients.txt..."; \
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-clients.txt && \
	cp requirements-clients.txt .venv-clients/requirements.txt; }
