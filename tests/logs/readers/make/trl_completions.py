"""How files/trl-1.16.0/ was made: pip install trl==1.16.0.

Usage: python tests/logs/readers/make/trl_completions.py TOKENIZER OUT.
Two steps of GRPO of a tiny random model, once on plain prompts and once on messages. TOKENIZER: folder of any tokenizer
that has a chat template.
"""

from __future__ import annotations

import sys
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, set_seed
from trl import GRPOConfig, GRPOTrainer

SUMS = {"What is 12 - 5?": "7", "What do 6 pens of 2 dollars cost?": "12"}


def short_reward(completions: list[Any], **_: Any) -> list[float]:
    texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
    return [1.0 / (1 + len(text)) for text in texts]


def right_reward(completions: list[Any], answer: list[str], log_extra: Any = None, **_: Any) -> list[float | None]:
    if log_extra is not None:
        log_extra("answer", answer)
    texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
    return [float(gold in text) for text, gold in zip(texts, answer, strict=True)]


def main(tokenizer_folder: str, out: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    for kind in ("plain", "messages"):
        set_seed(0)
        asked = [[{"role": "user", "content": q}] if kind == "messages" else q for q in SUMS]
        options = GRPOConfig(
            output_dir=f"{out}/{kind}", max_steps=2, per_device_train_batch_size=4, num_generations=2, report_to=[],
            max_completion_length=6, log_completions=True, logging_steps=1, use_cpu=True, bf16=False,
            save_strategy="no",
        )  # fmt: skip
        rows = Dataset.from_dict({"prompt": asked, "answer": list(SUMS.values())})
        GRPOTrainer(
            LlamaForCausalLM(config), reward_funcs=[right_reward, short_reward], args=options, train_dataset=rows,
            processing_class=tokenizer,
        ).train()  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
