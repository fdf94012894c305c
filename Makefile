PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check torture clean

demo: .venv/installed
	$(BIN)/dealtrail demo --force

test: .venv/developing
	$(BIN)/python -m pytest

check: test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=tests $(BIN)/lint-imports

torture: .venv/developing
	$(BIN)/python -m pytest -m slow

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/developing: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pytest>=8" "hypothesis>=6" "ruff>=0.8" "mypy>=1.13" "import-linter>=2.1" "starlette>=1" "httpx2>=2"
	touch $@

clean:
	rm -rf .venv
