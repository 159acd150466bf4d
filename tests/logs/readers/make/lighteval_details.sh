#!/usr/bin/env bash
# How files/lighteval-0.13.0/ was made: pip install lighteval==0.13.0, and any small model in a folder.
# Without a network lighteval does not start until lighteval/tasks/tasks/tinyBenchmarks.pkl is there; an empty file will do.
# Usage, from the repository's root: tests/logs/readers/make/lighteval_details.sh LIGHTEVAL MODEL_FOLDER OUT
set -euo pipefail
HF_HUB_OFFLINE=1 "$1" accelerate \
  "model_name=$2,dtype=float32,batch_size=1,generation_parameters={temperature:0.7,max_new_tokens:24}" \
  sums --custom-tasks tests/logs/readers/make/lighteval_task.py --output-dir "$3" --save-details
