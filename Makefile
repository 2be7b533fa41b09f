# make demo   three recorded repetitions of our robot, with a table and pictures
# make test   all tests (about 20 minutes on 2 cores); make soak: what takes longer
# make openxr what source:=openxr needs on top of a station; see docs/openxr.md
# make lint   ruff and mypy
# make benchmark  the retargeting against other solvers (ROBOTS="kestrel g1"); see docs/retargeting.md
# make benchmark-limits  every motion on every robot: is a limit or a margin broken?
# make benchmark-recorder  the recorder under load, overloaded, stopped and killed; see docs/recorder.md
# make lock   pin the requirements again (needs Python 3.10 and 3.11)
#
# Each target sets itself up in .venv first; the second run finds everything done.

PYTHON ?= python3
VENV := .venv
RECORDINGS ?= recordings
PYTEST_ARGUMENTS ?=
ROBOTS ?= kestrel g1
BENCHMARK_ARGUMENTS ?=
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
export PYTHONNOUSERSITE = 1
# ROS wheels start Python again with these; a half-set environment from outside would confuse them.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport PYTHONHOME

.PHONY: help demo test soak benchmark benchmark-limits benchmark-recorder lint lock prepare-demo prepare-test
.PHONY: prepare-soak prepare-benchmark openxr clean

help:
	@sed -n 's/^# //p' Makefile

prepare-demo:
	@$(PYTHON) setup/prepare.py demo

openxr:
	@$(PYTHON) setup/prepare.py openxr

prepare-test:
	@$(PYTHON) setup/prepare.py test

prepare-soak:
	@$(PYTHON) setup/prepare.py soak

prepare-benchmark:
	@$(PYTHON) setup/prepare.py benchmark

demo: prepare-demo
	@$(VENV)/bin/python -m capture_nodes.station robot:=kestrel source:=script episodes:=3 \
		root:=$(RECORDINGS) pictures:=true

# Tests that start nodes, or measure, have the machine to themselves; the others share its cores.
ALONE := test/graph test/launch test/benchmarks/test_recorder_run.py
TEST := $(VENV)/bin/python -m pytest -m "not soak"

ifeq ($(strip $(PYTEST_ARGUMENTS)),)
test: prepare-test
	@status=0; \
	$(TEST) -n $$(nproc) --dist loadfile --junitxml=build/test_results.xml test $(ALONE:%=--ignore=%) || status=1; \
	$(TEST) --junitxml=build/test_results_alone.xml $(ALONE) || status=1; \
	exit $$status
else
test: prepare-test
	@$(TEST) --junitxml=build/test_results.xml $(PYTEST_ARGUMENTS)
endif

soak: prepare-soak
	@$(VENV)/bin/python -m pytest -m soak $(PYTEST_ARGUMENTS)

benchmark: prepare-benchmark
	@mkdir -p build
	@$(VENV)/bin/python -m benchmarks.retargeting --robots $(ROBOTS) --json build/retargeting.json \
		--figure build/retargeting.png $(BENCHMARK_ARGUMENTS)

benchmark-limits: prepare-benchmark
	@mkdir -p build
	@$(VENV)/bin/python -m benchmarks.retargeting.limits --json build/limits.json $(BENCHMARK_ARGUMENTS)

RECORDER_BENCHMARK := $(VENV)/bin/python -m benchmarks.recorder

# Every run is wanted, also where the one before found something that does not add up.
benchmark-recorder: prepare-benchmark
	@mkdir -p build
	-@$(RECORDER_BENCHMARK) --runs counting recorder bag recorder+counting --seconds 60 --rounds 2 \
		--json build/recorder.json --figure build/recorder.png $(BENCHMARK_ARGUMENTS)
	-@$(RECORDER_BENCHMARK) --runs recorder --freeze 5 --json build/recorder_freeze.json $(BENCHMARK_ARGUMENTS)
	-@$(RECORDER_BENCHMARK) --runs recorder --kill --json build/recorder_kill.json $(BENCHMARK_ARGUMENTS)
	-@$(RECORDER_BENCHMARK) --runs counting recorder --scale 3 --seconds 20 \
		--json build/recorder_scale.json $(BENCHMARK_ARGUMENTS)

lint: prepare-test
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

lock:
	@$(PYTHON) setup/lock_requirements.py --python 3.10=python3.10 --python 3.11=python3.11

clean:
	rm -rf $(VENV) test/recording/node_readers/node_modules test/sources/web/node_modules build install log .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
