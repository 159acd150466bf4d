"""Rows made ready for a model: prompts as token ids, gold answers, and a grader of token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lengthwise.engine import Task
from lengthwise.engine.sampler import World
from lengthwise.errors import ConfigError, InputError
from lengthwise.evaluation.graders import Grader, grade
from lengthwise.evaluation.prompts import PromptContract, gold_answer, render


@dataclass(frozen=True)
class Problems:
    """P problems under one contract: what is asked, what is right, and how a response is read.

    `categories` names each problem's level (or is None); `ids` are stable names: the row's `problem_id`, else a
    hash of the prompt. `grader` replaces the contract's own when it is given.
    """

    ids: list[str]
    texts: list[str]
    prompts: list[list[int]]
    answers: list[str]
    categories: list[str] | None
    contract: PromptContract
    tokenizer: Any
    grader: Grader | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def response_text(self, tokens: Sequence[int]) -> str:
        """The text of a response, EOS and what a stop string cut left out."""
        kept = list(tokens)
        if kept and kept[-1] in self.contract.eos_ids:
            kept.pop()
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False)
        for stop in self.contract.stop_strings:
            text = text.split(stop)[0]
        return text

    def is_right(self, problem: int, tokens: Sequence[int]) -> bool:
        """The grader's verdict on one response, whether or not it was cut."""
        text = self.response_text(tokens)
        if self.grader is not None:
            return bool(self.grader(text, self.answers[problem]))
        return bool(grade(text, self.answers[problem], contract=self.contract))

    def task(self) -> Task:
        """The same problems as something to train on."""
        return Task(self.prompts, self.is_right, self.stops)

    def stops(self, owners: Sequence[int], generator: torch.Generator) -> World | None:
        """A world that ends a response once a stop string stands in it; None where there are none.

        It writes an EOS, so the response is finished and its length counts the stop string and that EOS.
        """
        if not self.contract.stop_strings:
            return None
        longest = max(len(stop) for stop in self.contract.stop_strings)

        def end(row: int, written: Sequence[int]) -> int | None:
            # A token is at least one character of text, or a piece of one of up to four bytes.
            tail = self.tokenizer.decode(list(written[-4 * longest :]))
            return self.contract.eos_ids[0] if any(s in tail for s in self.contract.stop_strings) else None

        return end


def prepare(
    rows: Sequence[Mapping[str, Any]],
    contract: PromptContract,
    tokenizer: Any,
    *,
    cap: int,
    positions: int | None,
    source: str,
    category_column: str = "level",
    grader: Grader | None = None,
) -> Problems:
    """Render rows under a resolved contract and check that each fits the model with `cap` response tokens.

    Raises:
        InputError: no row, a row without a problem or a readable answer, or a prompt that leaves no room for the
            cap within `positions`; the row is named.
        ConfigError: the contract does not fit the tokenizer's chat template.
    """
    if not rows:
        raise InputError(f"{source} holds no rows; give at least one problem")
    texts, prompts, answers = [], [], []
    for number, row in enumerate(rows, 1):
        try:
            text, ids = render(contract, tokenizer, row)
            answers.append(gold_answer(contract, row))
        except ConfigError:
            raise  # the contract's fault, not the row's
        except InputError as error:
            raise InputError(f"{source} row {number}: {error}") from error
        if positions is not None and len(ids) + cap > positions:
            raise InputError(
                f"{source} row {number}: the prompt has {len(ids)} tokens and the cap is {cap}, but the model "
                f"allows {positions} positions in all; shorten the prompt or lower the cap"
            )
        texts.append(text)
        prompts.append(ids)
    named = [_problem_id(row, text) for row, text in zip(rows, texts, strict=True)]
    has_levels = all(category_column in row for row in rows)
    categories = [str(row[category_column]) for row in rows] if has_levels else None
    return Problems(named, texts, prompts, answers, categories, contract, tokenizer, grader)


def _problem_id(row: Mapping[str, Any], text: str) -> str:
    given = row.get("problem_id")
    return hashlib.sha256(text.encode()).hexdigest()[:16] if given in (None, "") else str(given)
