#!/bin/sh
# The kernels under NVIDIA's compute-sanitizer: accesses out of bounds, races for memory of a block, barriers that
# lanes miss. Needs a GPU, and the library that `make cuda` builds.
#
#     tests/gpu/sanitize.sh                    what `make sanitize-gpu` runs
#     PYTHON=python3 tests/gpu/sanitize.sh     with a Python that has numpy, click and rich
#
# TOOLS    which of its tools; memcheck, racecheck and synccheck if not given
# RANKS    virtual ranks, which one launch holds together; 3 if not given
# SECONDS_EACH    for one tool and type; 600 if not given
# SIZES    of the arrays; 64,1002,70K if not given: less than a slot, odd, and several rounds
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
export PYTHONPATH="$PWD/python:$PWD/bench${PYTHONPATH:+:$PYTHONPATH}"
command -v compute-sanitizer > /dev/null || {
  echo "compute-sanitizer is not found: it is part of CUDA's toolkit" >&2
  exit 2
}

failed=0
for tool in ${TOOLS:-memcheck racecheck synccheck}; do
  for dtype in float32 float16; do
    echo "# $tool, $dtype, every algorithm of every collective by every protocol"
    timeout "${SECONDS_EACH:-600}" compute-sanitizer --tool="$tool" --error-exitcode=9 \
      "$PYTHON" -m ringtree gpu -n "${RANKS:-3}" --collective all --algorithm all --protocol all \
      --dtype "$dtype" --sizes "${SIZES:-64,1002,70K}" --iterations 1 || {
      echo "# failed, with status $?: $tool, $dtype"
      failed=1
    }
  done
done
exit $failed
