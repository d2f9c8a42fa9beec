#!/bin/sh
# The suite on a machine with a GPU, in one command and ten minutes: build, check, time, compare with the goals.
#
#     bench/gpu.sh                    what `make bench-gpu` runs, in the .venv of make
#     PYTHON=python3 bench/gpu.sh     with a Python that has numpy, click, rich, pybind11, cmake and ninja
#
# PYTHON    the interpreter; python3 if not given
# COMMIT    what the record calls these sources where they are not a git checkout
# OUT       where the records go; build/bench if not given
# MINUTES   what has not begun by then is left out; 9 if not given
# RINGTREE_CUDA_LIBRARY    a fabric that has been built: then nothing is compiled
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-build/bench}
WORLDS=${WORLDS:-2 4 8}
SMALL=${SMALL:-8,64,512,4K,16K,64K}
MIDDLE=${MIDDLE:-8,4K,32K,128K,512K,2M}
SIZES=${SIZES:-8,512,8K,64K,512K,4M,32M,256M}
LARGE=${LARGE:-256M}
CHECKS=${CHECKS:-64,1000,70K,1000004}
DEADLINE=$(($(date +%s) + 60 * ${MINUTES:-9}))
RECORD=$OUT/gpu-$(date +%Y%m%d-%H%M%S).jsonl
export RINGTREE_TIMEOUT="${RINGTREE_TIMEOUT:-60}"
export PYTHONPATH="$PWD/python:$PWD/bench${PYTHONPATH:+:$PYTHONPATH}"

build() {
  CUDACXX=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
  export CUDACXX
  cmake -S . -B build/gpu -G Ninja -DCMAKE_BUILD_TYPE=Release -DRINGTREE_CUDA=ON -DRINGTREE_TORCH=OFF \
    -DCMAKE_CUDA_ARCHITECTURES=native \
    "-DPython_EXECUTABLE=$("$PYTHON" -c 'import sys; print(sys.executable)')" > /dev/null
  cmake --build build/gpu --target modules
  cmake --install build/gpu --component module --prefix python > /dev/null
}

# What is wrong is shown, and the rest goes on: each measurement checks its own results, too.
check() {
  for ranks_and_type in \
    "--as virtual -n 3 --dtype float32" \
    "--as virtual -n 8 --dtype float16 --op avg" \
    "--as threads -n 4 --dtype int32 --op max"; do
    # shellcheck disable=SC2086  # words, not one argument
    if timeout 120 "$PYTHON" -m ringtree gpu $ranks_and_type --collective all --algorithm all --sizes "$CHECKS" \
      --iterations 1 > "$OUT/gpu-check.log" 2>&1; then
      echo "# checked, every algorithm of every collective: $ranks_and_type"
    else
      cat "$OUT/gpu-check.log"
      FAILED=1
      echo "# failed, as above: every algorithm of every collective: $ranks_and_type"
    fi
  done
}

# One record a call. What fails, or hangs, is a line, and the rest goes on.
measure() {
  left=$((DEADLINE - $(date +%s)))
  [ "$left" -lt 120 ] || left=120
  if [ "$left" -lt 5 ]; then
    echo "# left out, for want of time: ringtree gpu $*"
    return
  fi
  timeout "$left" "$PYTHON" -m ringtree gpu "$@" --json "$RECORD" ${COMMIT:+--commit "$COMMIT"} ||
    echo "# failed, with status $?: ringtree gpu $*"
}

# Kernels of two processes run at the same time under MPS alone. It is ours, and ends with this script.
start_mps() {
  command -v nvidia-cuda-mps-control > /dev/null || {
    echo "# processes take turns on the GPU: there is no nvidia-cuda-mps-control"
    return 0
  }
  CUDA_MPS_PIPE_DIRECTORY=$(mktemp -d)
  CUDA_MPS_LOG_DIRECTORY=$CUDA_MPS_PIPE_DIRECTORY
  export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
  HAS_MPS=1
  nvidia-cuda-mps-control -d || true
  trap stop_mps EXIT
  timeout 30 "$PYTHON" -c 'import ringtree as rt; rt.cuda.empty(1)' 2> /dev/null || {
    echo "# processes take turns on the GPU: MPS does not start here"
    stop_mps
  }
}

stop_mps() {
  trap - EXIT
  HAS_MPS=0
  echo quit | timeout 10 nvidia-cuda-mps-control > /dev/null 2>&1 || true
  rm -rf "$CUDA_MPS_PIPE_DIRECTORY"
  unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
}

FAILED=0
HAS_MPS=0
mkdir -p "$OUT"
[ -n "${RINGTREE_CUDA_LIBRARY:-}" ] || build
check
for n in $WORLDS; do
  measure --as threads -n "$n" --algorithm all --sizes "$LARGE" --seconds 0.5
  measure --as virtual -n "$n" --graph --sizes "$SMALL" --seconds 0.2
  measure --as threads -n "$n" --graph --sizes "$SMALL" --seconds 0.2
done
# Each rival by itself, the small sizes first: what one of them breaks is lost, and no more.
start_mps
for sizes in "$SMALL" "$SIZES"; do
  measure --as processes -n 2 --collective all_reduce,reduce_scatter,all_gather --sizes "$sizes" --seconds 0.3 \
    --peers nccl
done
measure --as processes -n 2 --sizes "$SIZES" --seconds 0.3 --peers symm_one_shot,symm_two_shot
[ $HAS_MPS = 0 ] || stop_mps
# What the half of the GPU costs that is left to other calls.
for n in $WORLDS; do
  (
    export RINGTREE_GPU_CHANNELS=64
    measure --as threads -n "$n" --algorithm all --sizes "$LARGE" --seconds 0.3
  )
done
# Where packets and lines end to pay.
for n in $WORLDS; do
  measure --as virtual -n "$n" --graph --protocol slots,packets --sizes "$MIDDLE" --seconds 0.3
  (
    export RINGTREE_GPU_PROTOCOL=packets
    measure --as virtual -n "$n" --graph --sizes "$MIDDLE" --seconds 0.2
  )
done
for n in $WORLDS; do
  measure --as virtual -n "$n" --algorithm all --sizes "$SIZES" --seconds 0.3
  measure --as threads -n "$n" --sizes "$SIZES" --seconds 0.3
done
measure --as threads -n "${WORLDS##* }" --collective all --sizes "$SIZES" --seconds 0.2
"$PYTHON" -m ringtree_bench.gpu.goals "$RECORD"
exit $FAILED
