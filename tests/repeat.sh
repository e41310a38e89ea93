#!/usr/bin/env bash
# Run `make test` N times in a row; print the minutes and last line of each, and stop at the first failure.
# usage: tests/repeat.sh 10 [pytest arguments]
set -uo pipefail
cd "$(dirname "$0")/.."
times=${1:?usage: tests/repeat.sh TIMES [pytest arguments]}
shift
log=$(mktemp)
for ((number = 1; number <= times; number++)); do
  start=$(date +%s)
  make test ARGS="$*" >"$log" 2>&1
  status=$?
  seconds=$(($(date +%s) - start))
  printf '%d of %d: %d min %02d s: %s\n' "$number" "$times" $((seconds / 60)) $((seconds % 60)) \
    "$(grep -E '^[0-9=].* (passed|failed)' "$log" | tail -1)"
  if ((status)); then
    grep -E '^(FAILED|ERROR)' "$log"
    echo "the whole output: $log"
    exit 1
  fi
done
rm "$log"
