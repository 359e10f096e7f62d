# demo: the main job on the built-in model. test: everything. Both make their own environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OUT ?= demo-out

.PHONY: demo test lint format bench fuzz install client-test clean

install: $(VENV)/.installed

# The pinned torch comes first, so that nothing after it can choose another build.
$(VENV)/.installed: pyproject.toml client/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt torch
	$(PIP) install --quiet -c constraints.txt -e "client[cli,pictures]" -e ".[dev]"
	touch $@

demo: install
	$(BIN)/qied demo --out $(OUT)

# One thread of torch for each of the two test processes: more of them would only wait for each other.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks/wire.py $(ARGS)

# What reads the headers of weight files, fuzzed for a while; atheris has builds for Linux only, so it is no dependency.
fuzz: install
	$(PIP) install --quiet atheris
	$(BIN)/python -m tools.fuzz_header -max_total_time=60 -max_len=4000 $(ARGS)

# The thin client alone: an environment that has neither qied nor torch.
client-test: .venv-client/.installed
	.venv-client/bin/python -m pytest -c client/pyproject.toml --rootdir client client/tests $(ARGS)

.venv-client/.installed: client/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-client
	.venv-client/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt -e "client[cli,pictures,test]"
	touch $@

clean:
	rm -rf $(VENV) .venv-client demo-out
