# Two commands matter: `make demo` and `make test`. Everything else is for those who change the code.
# Needs: Python 3.11+, make, and Node.js with npm for the local chain (without it those steps say so).
PY      ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.stamp
NPM_DIR := policy/execution/localnet
export DO_NOT_TRACK = 1
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export MLFLOW_DISABLE_TELEMETRY = true

.PHONY: demo test test-fast lint format lock env

env: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PY) -m venv $(VENV)
	@echo "installing the locked environment into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==0.13.8
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements.lock \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m ensurepip -q >/dev/null 2>&1 || true
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

lock: ## rewrite the lock file (no hosts in it) after changing pyproject.toml
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  -c constraints.txt -p 3.11 --all-extras pyproject.toml -o requirements.lock
