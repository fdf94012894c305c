PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check torture docs docs-cli bench clean

# S, M or L (10,000, 100,000 or 1,000,000 deals; L takes S and M along, and an hour or more the first time).
SIZE ?= M

demo: .venv/installed
	$(BIN)/dealtrail demo --force

test: .venv/developing
	$(BIN)/python -m pytest

check: test docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=tests $(BIN)/lint-imports

torture: .venv/torturing
	$(BIN)/python -m pytest -m slow
	$(BIN)/python tests/mutations.py

docs: .venv/documenting
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean

docs-cli: .venv/installed
	$(BIN)/python tests/cli_page.py

bench: .venv/benching
	$(BIN)/python -m benchmarks $(SIZE)
	$(BIN)/python -m benchmarks.render

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/developing: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pytest>=8" "hypothesis>=6" "ruff>=0.8" "mypy>=1.13" "import-linter>=2.1" "starlette>=1" "httpx2>=2" "opentelemetry-sdk>=1.30" "cryptography>=44"
	touch $@

# There is no wheel of it for every system; without it the tests that need it are skipped.
.venv/torturing: .venv/developing
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: "atheris>=3"
	touch $@

.venv/documenting: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "mkdocs>=1.6,<2" "mkdocs-material>=9.5" "mkdocstrings[python]>=0.27"
	touch $@

.venv/benching: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "duckdb>=2" "pandas>=3" "matplotlib>=3.9"
	touch $@

clean:
	rm -rf .venv
