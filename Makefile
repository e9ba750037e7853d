# `make demo`, `make test` and `make bench` set the environment up by themselves, once.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
export QT_QPA_PLATFORM ?= offscreen

.PHONY: demo test bench cmake-lists clean
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	$(BIN)/python Testing/demo.py

# Two processes of one thread each: small networks and scenes gain little from a second thread.
test: $(INSTALLED)
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py

# Rewrites the file lists of LandmarkDetection/CMakeLists.txt from the tree.
cmake-lists:
	$(PYTHON) Testing/cmake_lists.py --write

$(INSTALLED): pyproject.toml constraints.txt
	@bash Testing/system_packages.sh $(PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cli,train,test]"
	touch $@

clean:
	rm -rf .venv demo-output build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -maxdepth 2 -name '*.egg-info' -prune -exec rm -rf {} +
