# Every target first sets up .venv from requirements.lock, unless it is up to date. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
JOBS ?= 2
# `make test ORDER=` runs the tests in a random order and prints the seed.
ORDER ?= -p no:randomly
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate --no-emit-index-url --group dev --extra tensorboard

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: help quickstart test test-slow test-gpu test-agreement test-foundry test-transformers5 lint format lock clean

$(INSTALLED): requirements.lock pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info < (3, 13) else "Python 3.10 to 3.12 is needed, this is %d.%d; name another with make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

quickstart: $(INSTALLED)  ## Generate a toy language, train on it, evaluate, draw, export.
	$(BIN)/python -m elc_composer.quickstart

# loadfile: all tests of a file run in one worker, because they share launched jobs.
test: lint  ## Run lint and the default tests, as CI does.
	$(BIN)/python -m pytest $(ORDER) -n $(JOBS) --dist loadfile -m "not slow and not gpu and not agreement and not foundry"

test-slow: $(INSTALLED)  ## Run the tests that take longer than about 30 seconds.
	$(BIN)/python -m pytest -m "slow and not gpu and not agreement and not foundry"

test-gpu: $(INSTALLED)  ## Run the tests that need a CUDA device.
	$(BIN)/python -m pytest -m gpu

test-agreement: $(INSTALLED)  ## Compare with minicons, in an environment of its own.
	$(PYTHON) -m venv --clear .venv-agreement
	.venv-agreement/bin/python -m pip install --quiet -r requirements-agreement.lock
	.venv-agreement/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	.venv-agreement/bin/python -m pytest -m agreement

test-foundry: $(INSTALLED)  ## Run the callbacks inside LLM Foundry, in an environment of its own.
	$(PYTHON) -m venv --clear .venv-foundry
	.venv-foundry/bin/python -m pip install --quiet -r requirements-foundry.lock
	.venv-foundry/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	.venv-foundry/bin/python -m pytest -m foundry tests/callbacks

test-transformers5: $(INSTALLED)  ## Use an exported model in transformers 5, in an environment of its own.
	$(PYTHON) -m venv --clear .venv-transformers5
	.venv-transformers5/bin/python -m pip install --quiet --no-deps -r requirements-transformers5.lock
	.venv-transformers5/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	.venv-transformers5/bin/python -m pytest -m transformers5

lint: $(INSTALLED)  ## Run ruff and mypy.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## Fix what ruff can fix.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(INSTALLED)  ## Resolve the dependencies again and write the lock files.
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --group agreement --constraint requirements.lock pyproject.toml -o requirements-agreement.lock
	$(COMPILE) --group foundry pyproject.toml -o requirements-foundry.lock
	echo 'transformers>=5' | $(COMPILE) --group transformers5 --override - pyproject.toml -o requirements-transformers5.lock

clean:  ## Remove environments, caches and the quickstart's folder.
	rm -rf .venv .venv-agreement .venv-foundry .venv-transformers5 build *.egg-info .pytest_cache .mypy_cache .ruff_cache runs/quickstart
