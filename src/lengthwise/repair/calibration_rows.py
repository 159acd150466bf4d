"""Calibration rows: from a file of prompts and responses to padded batches of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.config.groups.weights import HarmfulRows
from lengthwise.data import read_rows, require_columns
from lengthwise.errors import ConfigError, InputError
from lengthwise.template_trial import try_out

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


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
            prompt = "\n".join(str(part) for part in (row["instruction"], row.get("input")) if part)
            row = {"prompt": prompt, "response": row["output"], **row}
        require_columns([row], ("prompt", "response"), str(path))
        if _harmful(row, number, path):
            pairs.append((str(row["prompt"]), str(row["response"])))
    if not pairs:
        raise InputError(f"{path} has {len(rows)} rows but none is harmful; give rows with harmful = true")
    return pairs


def _harmful(row: Mapping[str, object], number: int, path: Path) -> bool:
    for column, harmful in (("harmful", True), ("is_safe", False)):
        said = row.get(column)
        if said not in (None, True, False):
            raise InputError(f"{path}, row {number}: {column} is {said!r}; write true or false (null is left open)")
        if said is not None:
            return bool(said) is harmful
    return True


def calibration_rows(asked: HarmfulRows) -> list[tuple[str, str]]:
    """Prompt and response of the harmful rows that are taken: `harmful_rows`, then its half-open slice.

    Raises:
        InputError: what `harmful_rows` raises, or a slice that goes past the last harmful row.
    """
    assert asked.harmful is not None, "settings without rows are refused"
    pairs = harmful_rows(asked.harmful)
    start, stop = asked.span
    last = start + 1 if stop is None else stop
    if last > len(pairs):
        raise InputError(
            f"rows is {asked.words}, but {asked.harmful} has {len(pairs)} harmful rows; give START:STOP within "
            f"0:{len(pairs)}"
        )
    return pairs[start:stop]


def prompts_of(path: Path) -> list[str]:
    """The prompts of a file, each once; responses, where there are any, are passed over.

    Raises:
        InputError: an unreadable file, or a row without a prompt.
    """
    rows = [row if "prompt" in row else {"prompt": row.get("instruction"), **row} for row in read_rows(path)]
    return list(dict.fromkeys(str(row["prompt"]) for row in require_columns(rows, ("prompt",), str(path))))


def encode(
    tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], asked: HarmfulRows, *, chat: bool
) -> list[tuple[list[int], int]]:
    """Token ids of each row, cut at its longest, and how many of them are the prompt's.

    With ``chat`` the prompt goes through the tokenizer's chat template in place of the rows' own.

    Raises:
        ConfigError: a chat template is asked for that the tokenizer does not have.
    """
    if chat and getattr(tokenizer, "chat_template", None) is None:
        raise ConfigError("the tokenizer has no chat template; leave chat_template out, or give a harmful_template")
    encoded = []
    for prompt, response in pairs:
        if chat:
            message = [{"role": "user", "content": prompt}]
            try_out(tokenizer, message)
            ids = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"]
        else:
            ids = tokenizer(asked.harmful_template.replace("{prompt}", prompt))["input_ids"]
        answered = tokenizer(response, add_special_tokens=False)["input_ids"]
        longest = asked.max_length
        encoded.append(([*ids, *answered][:longest], min(len(ids), longest)))
    return encoded


def batches(
    encoded: Sequence[tuple[list[int], int]], asked: HarmfulRows, *, pad_id: int, device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """Batches padded on the right, rows of like lengths together; the order changes no sum."""
    ordered = sorted(encoded, key=lambda row: len(row[0]))
    for begin in range(0, len(ordered), asked.micro_batch_rows):
        rows = ordered[begin : begin + asked.micro_batch_rows]
        width = max(len(ids) for ids, _ in rows)
        ids = torch.full((len(rows), width), pad_id)
        attended = torch.zeros(len(rows), width, dtype=torch.long)
        counted = torch.zeros_like(attended)
        for number, (tokens, prompt) in enumerate(rows):
            ids[number, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            attended[number, : len(tokens)] = 1
            counted[number, prompt if asked.tokens == "response" else 0 : len(tokens)] = 1
        batch = {"input_ids": ids, "attention_mask": attended, "counted": counted}
        yield {name: part.to(device) for name, part in batch.items()}
