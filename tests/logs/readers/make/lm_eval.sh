#!/usr/bin/env bash
# How files/lm-eval-0.4.13/ was made: pip install "lm-eval[hf]==0.4.13", and any small model in a folder.
# Usage, from the repository's root: tests/logs/readers/make/lm_eval.sh LM_EVAL MODEL_FOLDER OUT
set -euo pipefail
HF_HUB_OFFLINE=1 "$1" --model hf --model_args "pretrained=$2,dtype=float32" --device cpu \
  --include_path tests/logs/readers/make/lm_eval_tasks --tasks sums,sums_sampled,sums_choice \
  --log_samples --output_path "$3" --batch_size 1 --seed 0
