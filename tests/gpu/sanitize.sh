#!/usr/bin/env bash
# The kernels under NVIDIA's compute-sanitizer: accesses out of bounds, races for memory of a block, barriers that
# lanes miss. Needs a GPU; builds the library where there is none yet.
#
#     tests/gpu/sanitize.sh                    what `make sanitize-gpu` runs
#     PYTHON=python3 tests/gpu/sanitize.sh     with a Python that has numpy, click and rich
#
# TOOLS    which of its tools; memcheck, racecheck and synccheck if not given
# RANKS    virtual ranks, which one launch holds together; 3 if not given
# MINUTES  of all together, building aside; 9 if not given. Each run gets an equal share of what is left, and is ended
#          when that is over
# SIZES    of the arrays; 64,1002,70K if not given: less than a slot, odd, and several rounds
# ODD      of arrays that begin at an odd element; 12,1004,70004 if not given
# RINGTREE_CUDA_LIBRARY    a library that has been built
#
# The exit status is 1 if a tool has found something, 3 if something else had no time, and is named.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
RANKS=${RANKS:-3}
SIZES=${SIZES:-64,1002,70K}
ODD=${ODD:-12,1004,70004}
export PYTHONPATH="$PWD/python:$PWD/bench${PYTHONPATH:+:$PYTHONPATH}"
command -v compute-sanitizer > /dev/null || {
  echo "compute-sanitizer is not found: it is part of CUDA's toolkit" >&2
  exit 2
}
[ -n "${RINGTREE_CUDA_LIBRARY:-}" ] || PYTHON=$PYTHON bench/build_gpu.sh --missing
DEADLINE=$(($(date +%s) + 60 * ${MINUTES:-9}))

# What runs under each tool: options of `ringtree gpu`. Ranks are virtual, so that one launch holds them together: a
# tool may let one launch of a process wait for another. What virtual ranks cannot do two processes do, in turns. Calls
# of which size decides how they travel are made of the same kernels, so they have no runs of their own.
# The short ones come first: what they leave of their shares goes to the others.
EVERYTHING="-n $RANKS --collective all --algorithm all --protocol slots,packets"
RUNS=(
  "--as processes -n 2 --collective sendrecv --sizes $SIZES"
  "--as processes -n 2 --op premul_sum --sizes $SIZES"
  "$EVERYTHING --sizes $SIZES"
  "$EVERYTHING --skip 1 --sizes $ODD"
  "$EVERYTHING --dtype float16 --skip 1 --sizes $ODD"
)

status_of_all=0
read -ra tools <<< "${TOOLS:-memcheck racecheck synccheck}"
to_come=$((${#tools[@]} * ${#RUNS[@]}))
for run in "${RUNS[@]}"; do
  for tool in "${tools[@]}"; do
    left=$((DEADLINE - $(date +%s)))
    share=$((left / to_come))
    to_come=$((to_come - 1))
    what="$tool: ringtree gpu $run"
    if [ "$share" -lt 1 ]; then
      echo "# left out, for want of time: $what"
      [ "$status_of_all" = 1 ] || status_of_all=3
      continue
    fi
    echo "# $what"
    status=0
    # shellcheck disable=SC2086  # words, not one argument
    timeout -k 10 "$share" compute-sanitizer --tool="$tool" --error-exitcode=9 --target-processes all \
      "$PYTHON" -m ringtree gpu $run --iterations 1 || status=$?
    if [ "$status" = 124 ] || [ "$status" = 137 ]; then
      echo "# not done after $share s, its share of the time: $what"
      [ "$status_of_all" = 1 ] || status_of_all=3
    elif [ "$status" != 0 ]; then
      echo "# failed, with status $status: $what"
      status_of_all=1
    fi
  done
done
exit $status_of_all
