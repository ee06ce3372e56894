# Each target makes .venv when it is absent and installs what it needs; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: run test lint format bench bench-ui chaos screenshots audit lock clean

run: $(VENV)/.app
	$(BIN)/python -m streamlit run app.py

# one thread each: on two cores, threads of two workers mostly wait for one another; files in their order, so that long
# ones with few tests are not left for the end
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.app
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.runner

bench-ui: $(VENV)/.dev
	$(BIN)/python -m benchmarks.ui

chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos

screenshots: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_browser.py -k "first_visit or screenshots" --screenshots screenshots

# known vulnerabilities of the pinned packages, as the Python Package Index reports them; a package that it does not
# know of fails too, rather than pass unseen
audit: $(VENV)/.dev
	$(BIN)/pip-audit --strict --progress-spinner off --require-hashes --disable-pip -r requirements.lock

lock: $(VENV)/.dev
	UV_NO_CONFIG=1 $(BIN)/uv pip compile requirements.txt --generate-hashes --upgrade --quiet --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --output-file requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis screenshots

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.app: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt requirements-cluster.txt requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@ $(VENV)/.app
