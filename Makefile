# demo: the main job on the built-in model. test: everything. Both make their own environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OUT ?= demo-out
# Empty: the build of torch that fits this machine. Or cpu, cuda, or the address of an index.
TORCH ?=
export TORCH

# The extra upscalers, without the torchvision that spandrel asks for and does not need: see pyproject.toml.
ALONE := spandrel einops

.PHONY: demo test test-tools quick test-card test-lowest lint format bench fuzz install wheels pins pins-check client-test clean

install: $(VENV)/.installed

# The pinned torch comes first, so that nothing after it can choose another build.
$(VENV)/.installed: pyproject.toml client/pyproject.toml constraints.txt
	@echo "Installing into $(VENV), once; most of it is torch (README.md says how much)."
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt $$($(PYTHON) tools/torch_index.py) torch
	$(PIP) install -c constraints.txt -e "client[cli,pictures,web]" -e ".[dev]"
	$(PIP) install -c constraints.txt --no-deps $(ALONE)
	touch $@

demo: install
	$(BIN)/qied demo --out $(OUT)

# Tests start hundreds of processes, which would each compile qied anew where the shell forbids to keep byte code.
test test-tools quick test-lowest client-test: export PYTHONDONTWRITEBYTECODE :=

# Three test processes for two cores, since many tests wait for daemons; one thread of torch each, as more would wait too.
# What takes a minute by itself has a run of its own: the training, whole runs of benchmarks, hundreds of edits, kills in the
# middle of them, a model from each kind of file, kernels compiled for each card, all documents' commands, the page in a browser.
TOOLS := tests/tiny_model $(addprefix tests/daemon/test_,many_edits.py shop.py kills.py single_files.py gguf_files.py) \
	tests/engine/ops/test_compiled_kernels.py tests/docs/test_command_lines.py tests/web/page $(addprefix tests/benchmarks/test_,quality_run.py wire_smoke.py web_smoke.py two_uses.py shop.py forward.py serve_edit.py vae_bench.py)
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(addprefix --ignore ,$(TOOLS)) $(ARGS)

test-tools: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(TOOLS) $(ARGS)

# The packages without torch, sockets and processes: within a minute, before each commit.
QUICK := tests/planning tests/scheduling tests/weights tests/loras tests/pictures tests/serving tests/docs tests/metrics \
	tests/test_config.py client/tests/protocol client/tests/picture_header client/tests/test_connection.py \
	client/tests/test_transfers.py client/tests/test_errors.py
quick: install
	$(BIN)/python -m pytest -n 2 -m "not slow" $(QUICK) $(ARGS)

# What only a card can show; the result is kept, with the date, the card and the versions.
test-card: install
	$(PIP) install --quiet -c constraints.txt -e ".[fp8-attention]"
	$(BIN)/python -m tools.test_card $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 --no-warn-return-any -p qied_client -p comfyui
	$(BIN)/lint-imports
	$(BIN)/vulture

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks/wire.py $(ARGS)

# What reads the headers of weight files, fuzzed for a while; atheris has builds for Linux only, so it is no dependency.
fuzz: install
	$(PIP) install --quiet atheris
	$(BIN)/python -m tools.fuzz_header -max_total_time=60 -max_len=4000 $(ARGS)

# Wheels of qied and of its client, to carry to other machines.
wheels: install
	$(PIP) wheel --quiet --no-deps --wheel-dir dist ./client .
	@ls -l dist/*.whl

# The pins: written anew (new ones only; delete a line to move it), and proven against the public index.
pins: install
	$(BIN)/python tools/pins.py write

pins-check: install
	$(BIN)/python tools/pins.py check

# The thin client alone: an environment that has neither qied nor torch.
client-test: .venv-client/.installed
	.venv-client/bin/python -m pytest -c client/pyproject.toml --rootdir client client/tests $(ARGS)

.venv-client/.installed: client/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-client
	.venv-client/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt -e "client[cli,pictures,test]"
	touch $@

# The lowest accepted version of everything that is named in pyproject.toml, and the tests with it.
test-lowest: install
	mkdir -p dist
	$(BIN)/python tools/pins.py lowest > dist/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip --disable-pip-version-check install -r dist/lowest.txt --no-deps -e client -e .
	.venv-lowest/bin/python -m pip --disable-pip-version-check install -c constraints.txt --no-deps $(ALONE)
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

clean:
	rm -rf $(VENV) .venv-client .venv-lowest demo-out dist
