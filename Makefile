# `make` prints what there is. Each target makes .venv and the build itself; later runs reuse both.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS ?= $(shell nproc)
VENV := .venv
READY := $(VENV)/.ready

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
ifeq ($(shell id -u),0)
# Open MPI's mpirun refuses root, who is the only user of many a container, until it is told twice.
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
endif
MPIRUN := mpirun -n 2 --map-by :OVERSUBSCRIBE --bind-to none

# CMake reads CUDACXX.
export CUDACXX ?= $(shell command -v nvcc || ls /usr/local/cuda/bin/nvcc 2> /dev/null)

CORE_SOURCES := $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.def' -o -name '*.cu')
CPP_TEST_SOURCES := $(shell find tests -name '*.h' -o -name '*.cpp' -o -name '*.def')

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup system build test test-cpp test-python test-gpu test-torch lint check-format ruff mypy layering tidy format \
        cuda sanitize sanitize-gpu tsan tsan-host asan model soak bench bench-gpu wheel clean

help:  ## print this
	@echo 'ringtree: collective communication for Python and PyTorch'
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1:\2/p' Makefile | \
	  while IFS=: read -r target what; do printf '  make %-13s%s\n' "$$target" "$$what"; done

setup: $(READY)  ## make .venv with all that developers need

# pip is upgraded first: the one that comes with Python 3.11 knows no dependency groups.
$(READY): pyproject.toml setup.py | system
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --upgrade 'pip>=25.1'
	python -m pip install --quiet --group dev
	CMAKE_ARGS='--preset release' python -m pip install --quiet --no-build-isolation --editable '.[bench]'
	touch $@

# Configured each time, which takes half a second, so that this folder is right whoever used it last.
build: $(READY)  ## compile what has changed
	@cmake --preset release -DPython_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python > /dev/null
	cmake --build --preset release --target modules
	@cmake --install build/release --component module --prefix python > /dev/null

test: lint cuda test-cpp test-python  ## linters, the CUDA compile and every test

test-cpp: build  ## GoogleTest
	cmake --build --preset release
	ctest --preset release

# The ranks of PyTorch's tests, and of ours, are forked from processes that have run nothing else.
PYTORCH_SUITE := pytest -q -r fE -W ignore tests/torch_backend/pytorch_suite.py

test-python: build test-gpu  ## pytest, and PyTorch's own tests on 2 ranks
	pytest -q --benchmark-disable
	pytest -q tests/torch_backend
	$(PYTORCH_SUITE)

# Prints on which library: ringtree's own on a machine with a GPU and nvcc, elsewhere the emulated one.
test-gpu: build cuda  ## collectives of arrays on a GPU, which is emulated where there is none
	cmake --build --preset release --target ringtree_cuda_emulated ringtree_torch_emulated ringtree_torch_from_cpp
	pytest tests/gpu
	pytest tests/torch_gpu

test-torch: build  ## PyTorch's own tests on 2 to 4 ranks, also in Gloo's place, and leaks (ten minutes)
	for ranks in 2 3 4; do for name in ringtree gloo; do \
	  RINGTREE_SUITE_WORLD=$$ranks RINGTREE_SUITE_AS=$$name $(PYTORCH_SUITE) || exit 1; \
	done; done
	for ranks in 3 4; do \
	  RINGTREE_SUITE_WORLD=$$ranks RINGTREE_SUITE_AS=mpi $(PYTORCH_SUITE) -k all_to_all || exit 1; \
	done
	PYTHONPATH=tests python tests/torch_backend/leaks.py

# The one thing that pip does not have. Without root, CMake fetches GoogleTest's sources instead.
system:
	@if ! echo '#include <gtest/gtest.h>' | $(CXX) -E -x c++ - > /dev/null 2>&1 \
	    && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends libgtest-dev; \
	fi

lint: check-format ruff mypy layering tidy  ## formatters, linters, types, layers

check-format: $(READY)
	clang-format --dry-run --Werror $(CORE_SOURCES) $(CPP_TEST_SOURCES)
	ruff format --check

ruff: $(READY)
	ruff check

mypy: $(READY)
	mypy

layering: $(READY)
	python tests/layering.py

tidy: build/tidy.passed

# Takes three minutes, so only after a change. Headers are checked through the files that include them.
build/tidy.passed: $(CORE_SOURCES) .clang-tidy | build
	run-clang-tidy.py -quiet -j $(JOBS) -p build/release /csrc/
	touch $@

format: $(READY)  ## let the formatters, and ruff's safe fixes, rewrite the sources
	clang-format -i $(CORE_SOURCES) $(CPP_TEST_SOURCES)
	ruff check --fix-only
	ruff format

cuda: $(READY)  ## compile the kernels for sm_80, sm_90 and PTX, where there is nvcc
ifeq ($(CUDACXX),)
	@echo 'CUDA compile skipped: nvcc not found'
else
	@cmake --preset cuda > /dev/null
	cmake --build --preset cuda
	@cmake --install build/cuda --component module --prefix python > /dev/null
endif

sanitize: tsan asan  ## the C++ tests under ThreadSanitizer, AddressSanitizer and UBSan

# ThreadSanitizer may refuse to start where the kernel randomises many bits of the addresses.
tsan tsan-host: WITHOUT_ASLR := $(shell setarch -R true 2> /dev/null && echo setarch -R)
tsan asan: $(READY)
	test -e build/$@/build.ninja || cmake --preset $@
	cmake --build --preset $@
	$(WITHOUT_ASLR) ctest --preset $@

# What CI has the time for: the code in which ranks that are threads meet on the host.
tsan-host: $(READY)  ## of these, communicator and links under ThreadSanitizer (three minutes)
	test -e build/tsan/build.ninja || cmake --preset tsan
	cmake --build --preset tsan --target communicator_test link_test
	$(WITHOUT_ASLR) ctest --preset tsan --label-regex '^(communicator|link)$$'

model:  ## check the slot protocol in all interleavings, with Spin
	@command -v spin > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends spin; } || \
	  { echo 'make model needs spin: apt-get install spin'; exit 1; }
	tests/model/check.sh

SOAK_SECONDS ?= 3600

soak: build  ## an hour of random calls, delays and kills (SOAK_SECONDS=600 for ten minutes)
	PYTHONPATH=tests python tests/soak.py $(SOAK_SECONDS)

bench: build  ## the suite on 2 ranks against Gloo and MPI, under PyTorch, then the digits example
	mkdir -p build/bench
	$(MPIRUN) ringtree bench --peers gloo,mpi \
	  --json build/bench/all_reduce.json --plot build/bench/all_reduce.png
	$(MPIRUN) ringtree bench --peers gloo,c10d --collective all --sizes 8:64M:8 --seconds 0.5 \
	  --json build/bench/torch.json
	$(MPIRUN) ringtree ddp --json build/bench/ddp.jsonl
	$(MPIRUN) python examples/02_digits.py

sanitize-gpu: build cuda  ## on a machine with a GPU: the kernels under compute-sanitizer
	PYTHON=python tests/gpu/sanitize.sh

bench-gpu: $(READY)  ## on a machine with a GPU: build, check and time the collectives there (ten minutes)
	PYTHON=$(VENV)/bin/python bench/gpu.sh

wheel: $(READY)  ## a wheel in dist/
	python -m build --no-isolation --wheel

clean:  ## remove what was built; .venv stays
	rm -rf build dist python/ringtree/_core*.so python/ringtree/_torch*.so
