#!/usr/bin/env bash
# The suite on a machine with a GPU, in one command and ten minutes: build, check, time, compare with the goals.
#
#     bench/gpu.sh                       what `make bench-gpu` runs, in the .venv of make
#     PYTHON=python3 bench/gpu.sh        with a Python that has numpy, click, rich, pybind11, cmake and ninja
#     STEPS=nccl BUILD=missing bench/gpu.sh    one step by itself, for instance one that time was too short for
#
# PYTHON    the interpreter; python3 if not given
# COMMIT    what the record calls these sources where they are not a git checkout
# OUT       where the records go, and all that is printed; build/bench if not given
# MINUTES   what has not begun by then is left out; 9 if not given
# STEPS     check large small processes sizes packets half nccl, if not given: see below
# BUILD     missing: only if there is no library yet
# RINGTREE_CUDA_LIBRARY    a fabric that has been built: then nothing is compiled
#
# Rows are in the record as soon as they have been measured, whatever ends their run, or this script.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-build/bench}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
WORLDS=${WORLDS:-2 4 8}
SMALL=${SMALL:-8,64,512,4K,16K,64K}
MIDDLE=${MIDDLE:-8,4K,32K,128K,512K,2M}
SIZES=${SIZES:-8,512,8K,64K,512K,4M,32M,256M}
LARGE=${LARGE:-256M}
CHECKS=${CHECKS:-64,1000,70K,1000004}
# Against NCCL every size counts: neighbours differ by a factor of 4 at most (ringtree_bench.gpu.goals).
NCCL_WORLDS=${NCCL_WORLDS:-2 4}
NCCL_SMALL=${NCCL_SMALL:-8,16,64,256,1K,4K,16K,64K}
NCCL_LARGE=${NCCL_LARGE:-256K,1M,4M,16M,64M,256M,1G}
STEPS=${STEPS:-check large small processes sizes packets half nccl}
DEADLINE=$(($(date +%s) + 60 * ${MINUTES:-9}))
NAME=$OUT/gpu-$(date +%Y%m%d-%H%M%S)
RECORD=$NAME.jsonl
MPS_LOGS=$NAME-mps
export PYTHON
export RINGTREE_TIMEOUT="${RINGTREE_TIMEOUT:-30}"
export PYTHONPATH="$PWD/python:$PWD/bench${PYTHONPATH:+:$PYTHONPATH}"
# shellcheck source=bench/mps.sh
. bench/mps.sh

FAILED=0
CHILD=
exec > >(tee -i "$NAME.log") 2>&1
LOGGER=$!

# However this script ends: nothing of it goes on, and what has been measured is held against the goals.
finish() {
  local status=$?
  trap - EXIT INT TERM
  [ -z "$CHILD" ] || kill "$CHILD" 2> /dev/null || true
  stop_mps
  [ ! -e "$RECORD" ] || timeout 60 "$PYTHON" -m ringtree_bench.gpu.goals "$RECORD" || status=1
  exec >&- 2>&-
  wait "$LOGGER" || true
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A command, for so many seconds at most. In the background, so that a signal is heeded at once.
limited() {
  local status=0
  timeout -k 10 "$@" &
  CHILD=$!
  wait "$CHILD" || status=$?
  CHILD=
  return "$status"
}

# Seconds that are left for one run; fewer than 5 are none.
time_left() {
  local left=$((DEADLINE - $(date +%s)))
  [ "$left" -le 120 ] || left=120
  [ "$left" -ge 5 ] || left=0
  echo "$left"
}

# One record a call. What fails, or hangs, is a line, and the rest goes on.
measure() {
  local left status=0
  left=$(time_left)
  if [ "$left" = 0 ]; then
    echo "# left out, for want of time: ringtree gpu $*"
    return 0
  fi
  limited "$left" "$PYTHON" -m ringtree gpu "$@" --json "$RECORD" ${COMMIT:+--commit "$COMMIT"} || status=$?
  [ "$status" != 0 ] || return 0
  [ "$status" != 124 ] || status="124, after $left s"
  echo "# failed, with status $status: ringtree gpu $*"
  if [ "$HAS_MPS" = 1 ]; then # which a process that was killed may have left in a bad way
    stop_mps
    start_mps
  fi
}

# Every algorithm of every collective is right. What is wrong is shown, and the rest goes on: each measurement checks
# its own results, too.
step_check() {
  local ranks_and_type left
  for ranks_and_type in \
    "--as virtual -n 3 --dtype float32" \
    "--as virtual -n 8 --dtype float16 --op avg" \
    "--as threads -n 4 --dtype int32 --op max"; do
    left=$(time_left)
    if [ "$left" = 0 ]; then
      echo "# left out, for want of time: checking every algorithm of every collective: $ranks_and_type"
    # shellcheck disable=SC2086  # words, not one argument
    elif limited "$left" "$PYTHON" -m ringtree gpu $ranks_and_type --collective all --algorithm all \
      --sizes "$CHECKS" --iterations 1 > "$OUT/gpu-check.log" 2>&1; then
      echo "# checked, every algorithm of every collective: $ranks_and_type"
    else
      cat "$OUT/gpu-check.log"
      FAILED=1
      echo "# failed, as above: every algorithm of every collective: $ranks_and_type"
    fi
  done
}

# The goals of bandwidth.
step_large() {
  for n in $WORLDS; do
    measure --as threads -n "$n" --algorithm all --sizes "$LARGE" --seconds 0.5
  done
}

# The goals of latency.
step_small() {
  for n in $WORLDS; do
    measure --as virtual -n "$n" --graph --sizes "$SMALL" --seconds 0.2
    measure --as threads -n "$n" --graph --sizes "$SMALL" --seconds 0.2
  done
}

# Beside PyTorch's symmetric memory.
step_processes() {
  start_mps
  measure --as processes -n 2 --sizes "$SIZES" --seconds 0.3 --peers symm_one_shot,symm_two_shot
  stop_mps
}

step_sizes() {
  for n in $WORLDS; do
    measure --as virtual -n "$n" --algorithm all --sizes "$SIZES" --seconds 0.3
    measure --as threads -n "$n" --sizes "$SIZES" --seconds 0.3
  done
  measure --as threads -n "${WORLDS##* }" --collective all --sizes "$SIZES" --seconds 0.2
}

# Where packets and lines end to pay.
step_packets() {
  for n in $WORLDS; do
    measure --as virtual -n "$n" --graph --protocol slots,packets --sizes "$MIDDLE" --seconds 0.3
    RINGTREE_GPU_PROTOCOL=packets measure --as virtual -n "$n" --graph --sizes "$MIDDLE" --seconds 0.2
  done
}

# What the half of the GPU costs that is left to other calls.
step_half() {
  for n in $WORLDS; do
    RINGTREE_GPU_CHANNELS=64 measure --as threads -n "$n" --algorithm all --sizes "$LARGE" --seconds 0.3
  done
}

# The goals against NCCL, behind all that does not need it; the small sizes first.
step_nccl() {
  local reason collective
  for n in $NCCL_WORLDS; do
    reason=$(timeout 60 "$PYTHON" -m ringtree_bench.gpu.rivals.ask nccl "$n" 2>&1) || {
      echo "# left out: ${reason##*$'\n'}"
      return 0
    }
  done
  start_mps
  for n in $NCCL_WORLDS; do
    measure --as processes -n "$n" --collective all_reduce,reduce_scatter,all_gather --sizes "$NCCL_SMALL" \
      --seconds 0.3 --peers nccl
    for collective in all_reduce reduce_scatter all_gather; do
      measure --as processes -n "$n" --collective "$collective" --sizes "$NCCL_LARGE" --seconds 0.3 --peers nccl
    done
  done
  stop_mps
}

for step in $STEPS; do
  [ "$(type -t "step_$step")" = function ] || {
    echo "there is no step $step"
    exit 2
  }
done
if [ -z "${RINGTREE_CUDA_LIBRARY:-}" ]; then
  limited 1800 bench/build_gpu.sh ${BUILD:+"--$BUILD"}
fi
for step in $STEPS; do
  "step_$step"
done
exit "$FAILED"
