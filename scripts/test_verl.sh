#!/usr/bin/env bash
# Test the verl plug-in inside verl, in an environment of its own: verl wants an older transformers than constraints.txt.
#
#   scripts/test_verl.sh              # installs into .venv/verl, or into $VERL_VENV; about 1.2 GB, minutes the first time
#   scripts/test_verl.sh --if-there   # tests only where that environment is there already; else says so and passes
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
VERL=${VERL:-0.9.1}
VENV=${VERL_VENV:-.venv/verl}
STAMP=$VENV/.installed-$VERL

if [[ ${1:-} == --if-there ]]; then
  shift
  if [[ ! -f $STAMP ]]; then
    echo "SKIPPED: the verl tests; no environment at $VENV (scripts/test_verl.sh makes one)"
    exit 0
  fi
fi
if [[ ! -f $STAMP ]]; then
  "$PYTHON" -m venv "$VENV"
  grep -E '^torch==' constraints.txt >"$VENV/constraints.txt"
  pip=("$VENV/bin/python" -m pip install --quiet --constraint "$VENV/constraints.txt")
  "${pip[@]}" torch
  # cachetools to uvicorn: what importing verl's trainer needs and verl itself does not require.
  "${pip[@]}" "verl==$VERL" cachetools TransferQueue pyzmq msgspec fastapi uvicorn pytest
  "${pip[@]}" --editable .
  touch "$STAMP"
fi
"$VENV/bin/python" -c 'import importlib.metadata as m; print(*(f"{p} {m.version(p)}" for p in ("verl", "transformers", "torch")))'
"$VENV/bin/python" -m lengthwise.adapters.verl
exec "$VENV/bin/python" -m pytest -q tests/adapters/test_verl.py tests/adapters/test_adapters.py "$@"
