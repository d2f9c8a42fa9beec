#!/usr/bin/env bash
# Builds the package in python/ringtree, with its library for the GPU of this machine; needs no .venv.
#
#     bench/build_gpu.sh              what has changed
#     bench/build_gpu.sh --missing    all of it where there is no library yet, else nothing
#
# PYTHON    the interpreter, which has pybind11, cmake and ninja; python3 if not given
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
if [ "${1:-}" = --missing ] && [ -e python/ringtree/libringtree_cuda.so ] && "$PYTHON" -c '
import sys
sys.path.insert(0, "python")
import ringtree' 2> /dev/null; then
  exit 0
fi
export CUDACXX="${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}"
cmake -S . -B build/gpu -G Ninja -DCMAKE_BUILD_TYPE=Release -DRINGTREE_CUDA=ON -DRINGTREE_TORCH=OFF \
  -DCMAKE_CUDA_ARCHITECTURES=native \
  "-DPython_EXECUTABLE=$("$PYTHON" -c 'import sys; print(sys.executable)')" > /dev/null
cmake --build build/gpu --target modules
cmake --install build/gpu --component module --prefix python > /dev/null
