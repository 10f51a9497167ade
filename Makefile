# Everything a newcomer types. Each target does its own set-up in .venv; re-running resumes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup system demo demo-quick test test-system lint format bench docs mutation colcon clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.tacit-ready

# Nothing here may reach beyond this host, and physics renders without a screen.
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
export MUJOCO_GL ?= $(shell sh .ci/system-libs --backend)

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP)  ## create .venv with the tested set of packages

system:  ## check the Debian packages; as root, install them
	@sh .ci/system-libs $(PYTHON)

$(STAMP): pyproject.toml constraints.txt
	@sh .ci/system-libs $(PYTHON)
	@echo "set-up: packages into $(VENV) (the first time it downloads torch, which is large)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -U pip
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[all]'
	@touch $@

demo: $(STAMP)  ## the whole loop in the simulated cell; ends with runs/demo/report.html
	$(BIN)/tacit demo

demo-quick: $(STAMP)  ## the same loop with tiny numbers
	$(BIN)/tacit demo --quick

# One thread per process: the suite starts several processes, and results do not depend on the machine.
# A worker per core up to four, for each loads torch and holds about 1 GB; one in turn: PYTEST_ARGS="-n 0".
# Work is stolen rather than dealt out: neighbours stay on one worker and share what their module built.
test: $(STAMP)  ## every test that this machine can run
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q --durations=10 \
	  -n logical --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

# The robot side as a whole, in up to three ways; a bundle of `make demo` does the tasks where there is one.
DEMO_BUNDLES := $(wildcard runs/demo/act_hsa.onnx) $(wildcard runs/demo/progress.onnx)
DEMO_ARGS := $(if $(word 2,$(DEMO_BUNDLES)),--bundle runs/demo/act_hsa.onnx --progress runs/demo/progress.onnx)
test-system: $(STAMP)  ## nodes, faults and kills by compose, in two network namespaces, and as plain processes
	OMP_NUM_THREADS=1 PYTHONPATH=tests:tests/helpers $(BIN)/python -m system.acceptance $(DEMO_ARGS) $(SYSTEM_ARGS)

lint: $(STAMP)  ## ruff and mypy over the whole tree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## measure this machine
	OMP_NUM_THREADS=1 $(BIN)/tacit bench $(BENCH_ARGS)

docs: $(STAMP)  ## the Python interface as pages, from its docstrings; ends with build/docs/index.html
	$(BIN)/python -m pdoc --docformat google --output-directory build/docs \
	  tacit tacit_ros tacit_sim tacit_learning tacit_calibration

mutation: $(STAMP)  ## plant small faults in the code; count those that no test notices
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[mutation]'
	$(BIN)/python tests/mutation.py $(MUTATION_ARGS)

# colcon lives beside the test environment: it brings pytest plugins that would change the tests.
COLCON_VENV := .venv-colcon
COLCON := $(abspath $(COLCON_VENV))
$(COLCON_VENV)/.ready: pyproject.toml constraints.txt
	test -x $(COLCON_VENV)/bin/python || $(PYTHON) -m venv $(COLCON_VENV)
	$(COLCON_VENV)/bin/python -m pip install --disable-pip-version-check -q -U pip
	$(COLCON_VENV)/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt \
	  colcon-common-extensions 'setuptools<80' numpy h5py opencv-python-headless pyyaml pydantic rich tyro pytest
	@touch $@

colcon: $(COLCON_VENV)/.ready  ## build and test the ROS packages with colcon, no ROS needed
	cd ros_ws && export PATH=$(COLCON)/bin:$$PATH AMENT_PREFIX_PATH=$(COLCON) CMAKE_PREFIX_PATH=$(COLCON) && \
	  colcon build --symlink-install && colcon test --return-code-on-test-failure && colcon test-result --verbose

clean:  ## remove what was built; keeps recordings and runs
	rm -rf $(VENV) $(COLCON_VENV) *.egg-info ros_ws/build ros_ws/install ros_ws/log
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
