"""What the engines ask of a grader: verdicts on texts, under the prompt contract, for problems of a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lengthwise.context_length import reach
from lengthwise.errors import ConfigError
from lengthwise.grading.problems import Problems, prepare
from lengthwise.grading.prompt_contract import PromptContract, resolve
from lengthwise.optional_imports import importing
from lengthwise.pretrained import check_folder, read_generation_config, read_words

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase as Tokenizer

Rows: TypeAlias = Sequence[Mapping[str, object]]
"""Rows of a data set."""


def problems_for(
    model: str | Path,
    rows: Rows,
    contract: PromptContract,
    *,
    cap: int,
    source: str,
    grader: str | None = None,
    trust_remote_code: bool = False,
) -> Problems:
    """Rows made ready for a model in a folder: rendered and checked under the contract, as our own engine has them."""
    folder = check_folder(model)
    config, tokenizer = read_words(folder, trust_remote_code=trust_remote_code)
    positions = reach(config)
    resolved = resolve(contract, tokenizer, read_generation_config(folder))
    return prepare(rows, resolved, tokenizer, cap=cap, positions=positions, source=source, grader=grader)


def prompt_rows(problems: Problems) -> list[dict[str, object]]:
    """Rows of `prompt`, `answer` and `problem_id` whose prompts TRL turns into the contract's own token ids.

    Raises:
        ConfigError: the tokenizer, given the text alone, writes other tokens than the contract, or the contract has
            stop strings, which TRL does not know.
    """
    if problems.contract.stop_strings:
        raise ConfigError(
            f"the prompt contract has stop_strings {list(problems.contract.stop_strings)}, at which TRL would not "
            "stop; leave them out: an EOS ends a response"
        )
    found: list[dict[str, object]] = []
    for number, ids in enumerate(problems.prompts):
        text = _text_for(problems.tokenizer, problems.texts[number], ids)
        found.append({"prompt": text, "answer": problems.answers[number], "problem_id": problems.ids[number]})
    return found


def _text_for(tokenizer: Tokenizer, text: str, ids: list[int]) -> str:
    """The text that becomes these ids: a tokenizer that adds its own BOS is not given a second one."""
    opening = tokenizer.bos_token or ""
    for candidate in (text, text.removeprefix(opening)):
        if list(tokenizer(text=candidate)["input_ids"]) == ids:
            return candidate
    raise ConfigError(
        f"the tokenizer turns the prompt {text!r} into other tokens than the prompt contract, perhaps because it adds "
        "an EOS to every text; switch that off in its tokenizer_config.json"
    )


def verdict_function(problems: Problems) -> Callable[..., list[float]]:
    """A reward function for TRL: 1 for a right answer, 0 for a wrong one, whether or not it was cut.

    It reads the completions' token ids, not their text, so that what the contract says of EOS and stop strings holds.
    """
    place = {name: number for number, name in enumerate(problems.ids)}

    def verdict(completion_ids: Sequence[Sequence[int]], problem_id: Sequence[str], **_: object) -> list[float]:
        return [float(right) for right in problems.responses_are_right([place[n] for n in problem_id], completion_ids)]

    return verdict


def stable_id(row: Mapping[str, object]) -> int:
    """A number for a row's problem that is the same in every run: of its `problem_id`, else of its prompt."""
    named = row["problem_id"] if row.get("problem_id") not in (None, "") else row["prompt"]
    digest = hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def as_dataset(rows: Rows) -> Dataset:
    """Rows as a `datasets.Dataset`.

    Raises:
        MissingExtraError: datasets is not installed.
    """
    with importing("a data set for TRL", "datasets", "trl"):
        from datasets import Dataset
    return Dataset.from_list([dict(row) for row in rows])
