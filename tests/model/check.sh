#!/usr/bin/env bash
# Checks the models with Spin: the protocols must hold in every interleaving, and each broken variant must fail,
# which shows that the model would have noticed.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

errors() {  # model, options of the preprocessor: how many errors there are
  local model=$1
  shift
  (cd "$work" && spin -a "$@" "$OLDPWD/$model.pml" > spin.log && cc -O1 -DSAFETY -o pan pan.c 2> cc.log &&
    ./pan -m1000000 > pan.log && sed -nE 's/.*errors: ([0-9]+).*/\1/p' pan.log)
}

verdict=0
check() {  # holds or fails, model, options
  local expected=$1 found
  shift
  found=$(errors "$@")
  if { [ "$expected" = holds ] && [ "$found" = 0 ]; } || { [ "$expected" = fails ] && [ "$found" != 0 ]; }; then
    echo "$*: $expected, as it must"
  else
    echo "$*: should be one that $expected, but Spin found $found errors" >&2
    verdict=1
  fi
}

check holds lane
check holds lane -DDYING
check fails lane -DNO_CREDITS
check fails lane -DEARLY_PUBLISH
check fails lane -DDYING -DDEAF
check holds window
check fails window -DNO_CLAIM
check fails window -DONE_PEER
check holds packets
check fails packets -DNO_CREDIT
check fails packets -DTRUSTING
check holds doorbell
check fails doorbell -DWEAK
check fails doorbell -DNO_SECOND_LOOK
check fails doorbell -DNO_TICKET
exit $verdict
