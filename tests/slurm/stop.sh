#!/usr/bin/env bash
# Stops what start.sh started in a folder, in the opposite order.
set -euo pipefail
test -f "$1/pids" || exit 0
for pid in $(tac "$1/pids"); do
  kill "$pid" 2> /dev/null || true
  for _ in $(seq 50); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
  kill -9 "$pid" 2> /dev/null || true
done
rm -f "$1/pids"
