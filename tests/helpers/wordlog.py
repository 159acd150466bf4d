"""A tokenizer whose tokens are words, and a small log whose every number can be counted by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

EOS = "<eos>"


def word_tokenizer(folder: Path) -> Path:
    """Save a tokenizer that makes one token of every word, and of the EOS."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<unk>": 0, EOS: 1, "word": 2}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token=EOS).save_pretrained(folder)
    return folder


def row(
    problem: str, sample: int, answer: Any, response: str, num_tokens: int, finished: bool = True
) -> dict[str, Any]:
    category = "easy" if problem == "a" else "hard"
    return {
        "problem_id": problem, "sample": sample, "answer": answer, "response": response, "num_tokens": num_tokens,
        "finished": finished, "category": category,
    }  # fmt: skip


HAND = [
    # 9 words of thinking, 4 of answer, EOS; the right answer stands in the 6th word.
    row("a", 0, "4", "<think> two plus two = 4. check again </think> The answer is 4", 14),
    # 8 words of thinking, 4 of answer, EOS; right in the 6th, then another answer.
    row("a", 1, 4, "<think> two plus two = 4. no </think> The answer is 5", 13),
    # No thinking, 4 words, EOS.
    row("b", 0, "#### 7", "The answer is 7", 5),
    # Cut in its thinking after 6 words.
    row("b", 1, [7], "<think> maybe = 7. hmm hmm", 6, finished=False),
    # An EOS at once.
    row("c", 0, 9.0, "", 1),
    # Right, but cut after 7 words.
    row("c", 1, "9", "I say: The answer is 9. And", 7, finished=False),
]


def write_log(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
