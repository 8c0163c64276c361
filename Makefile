# Every target sets up .venv from requirements.lock first and does nothing where that is current.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
JOBS ?= 2
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate --no-emit-index-url --group dev --extra tensorboard

.PHONY: quickstart test test-slow test-gpu test-agreement test-foundry lint format lock clean

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info < (3, 13) else "Python 3.10 to 3.12 is needed, this is %d.%d; name another with make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

quickstart: $(INSTALLED)  ## Generate a small language, train on it, evaluate, draw, export.
	$(BIN)/python -m elc_composer.quickstart

# A file stays on one worker: its launched jobs run once for all its tests.
test: lint  ## What CI runs: lint, then every test that needs neither a GPU nor much time.
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu and not agreement and not foundry"

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow and not gpu and not agreement and not foundry"

test-gpu: $(INSTALLED)
	$(BIN)/python -m pytest -m gpu

test-agreement: $(INSTALLED)  ## Against other public packages, installed into an environment of its own.
	$(PYTHON) -m venv --clear .venv-agreement
	.venv-agreement/bin/python -m pip install --quiet -r requirements-agreement.lock
	.venv-agreement/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	.venv-agreement/bin/python -m pytest -m agreement

test-foundry: $(INSTALLED)  ## Inside LLM Foundry, which is large, in an environment of its own.
	$(PYTHON) -m venv --clear .venv-foundry
	.venv-foundry/bin/python -m pip install --quiet -r requirements-foundry.lock
	.venv-foundry/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	.venv-foundry/bin/python -m pytest -m foundry tests/callbacks

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(INSTALLED)
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --group agreement --constraint requirements.lock pyproject.toml -o requirements-agreement.lock
	$(COMPILE) --group foundry pyproject.toml -o requirements-foundry.lock

clean:
	rm -rf .venv .venv-agreement .venv-foundry build *.egg-info .pytest_cache .mypy_cache .ruff_cache runs/quickstart
