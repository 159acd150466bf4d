# Two commands do all the set-up: `make demo` and `make test`. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Processes that run tests side by side, a file each.
WORKERS ?= 2
# Whole runs, which counting lines would make eight times as long.
HASHES := tests/test_number_hashes.py
INSTALLED := $(VENV)/.installed

.PHONY: demo test site clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . pytest pytest-cov pytest-xdist psutil ruff mypy
	touch $@

demo: $(INSTALLED)
	$(BIN)/lengthwise demo --out runs/demo

test: $(INSTALLED)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/python -m studies build --check
	$(BIN)/python -m pytest -q -n $(WORKERS) $(HASHES)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --ignore $(HASHES) --cov=lengthwise --cov-report=
	$(BIN)/python -m coverage report --include='*/objectives/*,*/engine/*' --fail-under=90

# The documentation as a site, build/site/index.html; what is wrong with a page or a link is an error.
site: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) runs build dist
