# `make demo` and `make test` do everything on a fresh machine; the other targets are for people who work here.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python 3.11 to 3.13 that runs.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
comma := ,

.PHONY: help
help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: install
install: ## Create .venv from the lock and fetch the pinned jars
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found on PATH. Install one (Debian: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3 …" >&2; exit 1; }
	@$(PYTHON) tools/bootstrap.py
	@$(BIN)/python tools/ui.py --optional
	@$(BIN)/forebay setup

.PHONY: demo
demo: install ## Start the stack, run the flights job and show its result; TARGET=trino runs its SQL on Trino
	@$(BIN)/forebay demo $(if $(filter-out local,$(TARGET)),--with $(TARGET))

.PHONY: test
test: lint ## Run every check and every test
	@$(BIN)/python -m pytest tests/unit
	@$(BIN)/python tools/chromium.py
	@# Two at a time, for each waits more than it computes; the second is shown once the first is done. Ctrl-C (pytest's 2) ends
	@# both, which takes job control. Spark has the machine to itself: its clusters start processes by the dozen.
	@set -m; said=$$(mktemp); \
	( $(BIN)/python -m pytest tests/browser; browser=$$?; [ $$browser = 2 ] || $(BIN)/python -m pytest tests/integration && exit $$browser ) >$$said 2>&1 & \
	beside=$$!; trap 'kill -INT -- -$$beside' INT TERM; \
	$(BIN)/python -m pytest tests/engines --ignore-glob='*spark*'; engines=$$?; [ $$engines != 2 ] || kill -INT -- -$$beside; \
	tail -n +1 -f $$said & shown=$$!; \
	wait $$beside; others=$$?; sleep 1; kill $$shown; rm -f $$said; exit $$((engines | others))
	@$(BIN)/python -m pytest tests/engines/test_spark*.py

# What runs promise, on MinIO with a second catalog; and once more on one that commits one table at a time.
PROMISES := $(addprefix tests/engines/test_,writers.py lens.py lens_service.py lens_together.py publish.py rollback.py \
	table_rollback.py partitions.py unpublished.py rerun.py histories.py history.py diff.py index.py ingest.py duckdb.py \
	compaction.py compaction_rows.py maintain.py)

.PHONY: test-stores
test-stores: install ## Test MinIO with a second catalog, buckets, and moving a lake (needs Go 1.24; the first time ten minutes more)
	@$(BIN)/python -m pytest tests/stores
	@FOREBAY_HISTORIES=100 $(BIN)/python -m pytest --stack minio $(PROMISES)
	@$(BIN)/python -m pytest --stack one-by-one $(addprefix tests/engines/test_,publish.py rollback.py writers.py compaction.py maintain.py) -k "not spark and not trino"

.PHONY: test-unit
test-unit: lint ## Run the checks and tests that need no stack
	@$(BIN)/python -m pytest tests/unit

.PHONY: test-kubernetes
test-kubernetes: install ## Test images, chart, alerts, and Spark on a node (needs root, Go 1.24, Java 24 and Debian or Ubuntu; the first time 50 minutes, then 30)
	@$(BIN)/python -m pytest tests/kubernetes

.PHONY: test-production
test-production: install ## Test Airflow as in production: Keycloak, OpenBao, Celery with Redis, logs on S3 (needs Debian or Ubuntu)
	@$(BIN)/python -m pytest tests/production

.PHONY: lint
lint: install ## Check style and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/forebay check

.PHONY: ui
ui: install ## Build the SQL editor from npm's packages (install does it too, where it can)
	@$(BIN)/python tools/ui.py

.PHONY: docs
docs: install ## Write the generated parts of the documentation
	@$(BIN)/python tools/reference.py

.PHONY: bench
bench: install ## Measure, against named peers in the same run
	@$(BIN)/python bench/run.py $(subst $(comma), ,$(ONLY))

.PHONY: lock
lock: install ## Resolve pyproject.toml into requirements.txt (needs uv on PATH)
	@uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-header pyproject.toml -o requirements.txt
	@for name in build lens spark; do uv pip compile --quiet --python-version 3.13 --python-platform linux --generate-hashes --no-header --no-annotate -c requirements.txt images/$$name.in -o images/$$name.txt; done
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate images/airflow.in -o images/airflow.txt
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c images/airflow.txt images/team.in -o images/team.txt
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate tests/kubernetes/tools.in -o tests/kubernetes/tools.txt

.PHONY: clean
clean: ## Stop the stack and remove its state and .venv
	@test ! -x $(BIN)/forebay || $(BIN)/forebay down
	@rm -rf .forebay .venv

.PHONY: screenshot
screenshot: install ## Take docs/images/run.png from the running stack (needs Chromium on PATH)
	@$(BIN)/python tools/screenshot.py

.PHONY: screenshots
screenshots: install ## Take the console's pictures in docs/screenshots/ from the running stack (needs Chromium on PATH)
	@$(BIN)/python tools/screenshots.py
