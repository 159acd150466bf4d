# Two commands do all the set-up: `make demo` and `make test`. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Processes that run tests side by side, a file each.
WORKERS ?= 2
# What must be tested to nine lines in ten. Counting lines makes a test two and a half times as long, a whole run eight times, so
# the others run without.
COVERED := tests/objectives tests/engine tests/methods
INSTALLED := $(VENV)/.installed
TESTED := $(VENV)/.installed-for-tests

.PHONY: demo test site clean

$(INSTALLED): pyproject.toml constraints.txt
	@echo "1 of 3: an environment of its own in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "2 of 3: torch, a large download; a while the first time"
	@$(BIN)/python -m pip install --constraint constraints.txt torch
	@echo "3 of 3: lengthwise and what it needs"
	@$(BIN)/python -m pip install --constraint constraints.txt --editable .
	@touch $@

$(TESTED): $(INSTALLED)
	@echo "and what the tests need"
	@$(BIN)/python -m pip install --constraint constraints.txt pytest pytest-cov pytest-xdist psutil ruff mypy nbclient ipykernel
	@touch $@

demo: $(INSTALLED)
	$(BIN)/lengthwise demo --out runs/demo

test: $(TESTED)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/python -m studies build --check
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(COVERED) --cov=lengthwise --cov-report=
	$(BIN)/python -m coverage report --include='*/objectives/*,*/engine/*' --fail-under=90
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(addprefix --ignore=,$(COVERED))

# The documentation as a site, build/site/index.html; what is wrong with a page or a link is an error.
site: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) runs build dist
