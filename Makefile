# make book   set up everything, build the HTML book   make test   set up everything, run every test
# make check  lint, layout and the fast tests          make lab    open the chapters in JupyterLab
# make bench  measure speed against the floor
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# One thread for each of the JOBS processes: more of them wait for each other and gain nothing.
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 \
  XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

.DEFAULT_GOAL := help
.PHONY: help setup book lint check test lab bench clean lock

help:
	@grep -h '^# make' Makefile | sed 's/^# //'

setup: $(VENV)/ready

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "setting up $(VENV): installing the locked packages, one to three minutes"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --progress-bar off --require-hashes -r requirements.lock \
	  2> $(VENV)/install.log || { cat $(VENV)/install.log; exit 1; }
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e . \
	  2>> $(VENV)/install.log || { cat $(VENV)/install.log; exit 1; }
	@touch $@

book: setup
	@$(BIN)/learnit run all --out _build/executed --jobs $(JOBS) --cached
	@$(BIN)/python book/build.py

lint: setup
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb

check: lint
	@$(ONE_THREAD) $(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: lint
	@$(BIN)/python tools/browser.py
	@$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

bench: setup
	@mkdir -p _build
	@for name in fields meta_step inner_loops ntk ct nerf; do \
	  $(BIN)/python benchmarks/$$name.py --json > _build/bench-$$name.json && \
	  $(BIN)/python benchmarks/timing.py _build/bench-$$name.json || exit 1; done
	@echo "as JSON: _build/bench-*.json"

lab: setup
	@$(BIN)/jupyter lab notebooks

lock: setup
	@tools/lock.sh

clean:
	rm -rf _build $(VENV) .venv-colab runs *.egg-info .hypothesis .ruff_cache .pytest_cache
