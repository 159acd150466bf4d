#!/usr/bin/env bash
# Test with the lowest transformers that pyproject.toml allows what reaches into it: attention, caches, position
# schemes, the sampler. The highest is in constraints.txt, with which everything is tested.
#
#   scripts/test_transformers_range.sh              # installs into .venv/lowest, or into $LOWEST_VENV
#   LOWEST=5.6.0 scripts/test_transformers_range.sh # another release
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
LOWEST=${LOWEST:-$(sed -n 's/^ *"transformers>=\([0-9.]*\),.*/\1/p' pyproject.toml)}
[[ $LOWEST == *.*.* ]] || LOWEST=$LOWEST.0
VENV=${LOWEST_VENV:-.venv/lowest}

if [[ ! -f $VENV/.installed-$LOWEST ]]; then
  "$PYTHON" -m venv "$VENV"
  grep -Ev '^(transformers|tokenizers|huggingface_hub|typer)==' constraints.txt >"$VENV/constraints.txt"
  "$VENV/bin/python" -m pip install --quiet --constraint "$VENV/constraints.txt" torch
  "$VENV/bin/python" -m pip install --quiet --constraint "$VENV/constraints.txt" "transformers==$LOWEST" --editable . pytest
  touch "$VENV/.installed-$LOWEST"
fi
"$VENV/bin/python" -c 'import transformers; print("transformers", transformers.__version__)'
exec "$VENV/bin/python" -m pytest -q tests/context/test_lambda_models.py tests/context/test_lambda_refusals.py tests/context/test_lambda_cache.py \
  tests/runs/test_lambda_evaluate.py tests/context/test_schemes_models.py tests/engine/backends/test_transformers_sampler.py "$@"
