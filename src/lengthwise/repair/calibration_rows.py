"""Calibration rows: from a file of prompts and responses to padded batches of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lengthwise.data import read_rows, require_columns
from lengthwise.errors import ConfigError, InputError

TOKENS = ("all", "response")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Which rows are read and how they become tokens.

    Of the harmful rows of the file, counted from 0, those from ``start`` up to and without ``stop`` are taken; all by
    default.
    ``template`` holds ``{prompt}``; the response follows it as it is. With ``chat`` the prompt goes through the
    tokenizer's chat template in its place. ``tokens`` says which count: ``all`` (the authors') or ``response``.
    """

    rows: Path
    start: int = 0
    stop: int | None = None
    template: str = "{prompt}"
    chat: bool = False
    tokens: str = "all"
    longest: int = 1024
    batch_rows: int = 8

    @property
    def span(self) -> str:
        """``START:STOP`` in words of the command."""
        return f"{self.start}:{'' if self.stop is None else self.stop}"

    @property
    def where(self) -> str:
        """What a count of rows needs beside it: nothing, where all are taken."""
        return "" if (self.start, self.stop) == (0, None) else f" in {self.span}"

    def check(self) -> None:
        """Refuse what is out of range.

        Raises:
            ConfigError: naming the option.
        """
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise ConfigError(
                f"rows is {self.span}, which holds no row; give START:STOP with 0 <= START < STOP (STOP is not taken)"
            )
        if self.tokens not in TOKENS:
            raise ConfigError(f"tokens is {self.tokens!r}; choose one of {', '.join(TOKENS)}")
        if "{prompt}" not in self.template:
            raise ConfigError(f"prompt_template is {self.template!r}; it must hold {{prompt}}")
        if self.longest < 1 or self.batch_rows < 1:
            raise ConfigError(f"max_length is {self.longest} and batch_rows {self.batch_rows}; both must be at least 1")


def harmful_rows(path: Path) -> list[tuple[str, str]]:
    """Prompt and response of every row that is harmful.

    Rows are ``prompt, response, harmful``, BeaverTails' ``prompt, response, is_safe``, or Alpaca's ``instruction,
    input, output``; a row that does not say whether it is harmful is taken as such.

    Raises:
        InputError: an unreadable file, a row without prompt or response, one whose ``harmful`` or ``is_safe`` is
            neither true nor false, or no harmful row at all.
    """
    rows = read_rows(path)
    pairs = []
    for number, row in enumerate(rows, start=1):
        if "instruction" in row and "output" in row:
            prompt = "\n".join(part for part in (row["instruction"], row.get("input")) if part)
            row = {"prompt": prompt, "response": row["output"], **row}
        require_columns([row], ("prompt", "response"), str(path))
        if _harmful(row, number, path):
            pairs.append((str(row["prompt"]), str(row["response"])))
    if not pairs:
        raise InputError(f"{path} has {len(rows)} rows but none is harmful; give rows with harmful = true")
    return pairs


def _harmful(row: Mapping[str, Any], number: int, path: Path) -> bool:
    for column, harmful in (("harmful", True), ("is_safe", False)):
        said = row.get(column)
        if said not in (None, True, False):
            raise InputError(f"{path}, row {number}: {column} is {said!r}; write true or false (null is left open)")
        if said is not None:
            return bool(said) is harmful
    return True


def calibration_rows(how: Calibration) -> list[tuple[str, str]]:
    """Prompt and response of the harmful rows that a calibration takes: `harmful_rows`, then its half-open slice.

    Raises:
        InputError: what `harmful_rows` raises, or a slice that goes past the last harmful row.
    """
    pairs = harmful_rows(how.rows)
    last = how.start + 1 if how.stop is None else how.stop
    if last > len(pairs):
        raise InputError(
            f"rows is {how.span}, but {how.rows} has {len(pairs)} harmful rows; give START:STOP within 0:{len(pairs)}"
        )
    return pairs[how.start : how.stop]


def prompts_of(path: Path) -> list[str]:
    """The prompts of a file, each once; responses, where there are any, are passed over.

    Raises:
        InputError: an unreadable file, or a row without a prompt.
    """
    rows = [row if "prompt" in row else {"prompt": row.get("instruction"), **row} for row in read_rows(path)]
    return list(dict.fromkeys(str(row["prompt"]) for row in require_columns(rows, ("prompt",), str(path))))


def encode(tokenizer: Any, pairs: Sequence[tuple[str, str]], how: Calibration) -> list[tuple[list[int], int]]:
    """Token ids of each row, cut at its longest, and how many of them are the prompt's.

    Raises:
        ConfigError: a chat template is asked for that the tokenizer does not have.
    """
    if how.chat and getattr(tokenizer, "chat_template", None) is None:
        raise ConfigError("the tokenizer has no chat template; leave chat_template out, or give a prompt_template")
    encoded = []
    for prompt, response in pairs:
        if how.chat:
            message = [{"role": "user", "content": prompt}]
            asked = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"]
        else:
            asked = tokenizer(how.template.replace("{prompt}", prompt))["input_ids"]
        answered = tokenizer(response, add_special_tokens=False)["input_ids"]
        encoded.append(([*asked, *answered][: how.longest], min(len(asked), how.longest)))
    return encoded


def batches(
    encoded: Sequence[tuple[list[int], int]], how: Calibration, *, pad_id: int, device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """Batches padded on the right, rows of like lengths together; the order changes no sum."""
    ordered = sorted(encoded, key=lambda row: len(row[0]))
    for begin in range(0, len(ordered), how.batch_rows):
        rows = ordered[begin : begin + how.batch_rows]
        width = max(len(ids) for ids, _ in rows)
        ids = torch.full((len(rows), width), pad_id)
        attended = torch.zeros(len(rows), width, dtype=torch.long)
        counted = torch.zeros_like(attended)
        for number, (tokens, prompt) in enumerate(rows):
            ids[number, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            attended[number, : len(tokens)] = 1
            counted[number, prompt if how.tokens == "response" else 0 : len(tokens)] = 1
        batch = {"input_ids": ids, "attention_mask": attended, "counted": counted}
        yield {name: part.to(device) for name, part in batch.items()}
