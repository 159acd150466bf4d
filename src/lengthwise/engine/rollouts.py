"""The one value that travels from the sampler to the loss."""

from __future__ import annotations

from dataclasses import Field, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from lengthwise.errors import ShapeError

PROMPT_FIELDS = ("prompt_ids", "prompt_mask")
RESPONSE_FIELDS = ("completion_ids", "mask", "train_mask", "logp", "policy_version")
ROW_FIELDS = (
    "num_tokens", "finished", "done", "answer_correct", "group_ids", "problem_ids", "cap", "is_long", "obeys",
    "thinking_tokens", "thinking_ids", "budget", "answer_start",
)  # fmt: skip
OPTIONAL_FIELDS = ("is_long", "obeys", "bare_prompt_ids", "thinking_tokens")
NO_TOKEN = -1
"""Padding of `bare_prompt_ids`, on the left."""


@dataclass(frozen=True)
class Rollouts:
    """A batch of B responses, padded on the right to T tokens.

    `prompt_ids` int [B, P] is padded on the left, `prompt_mask` bool [B, P] marks its real tokens. `mask`
    bool [B, T] marks all response tokens: ``mask.sum(1) == num_tokens`` always. `train_mask` bool [B, T] marks
    those the policy learns from. `num_tokens` int [B] counts response tokens, EOS included. `finished` means
    ended by EOS and nothing else; `done` means finished or at its cap. `answer_correct` is the grader's verdict
    whether or not the answer was cut; `correct` is `answer_correct & finished`. `group_ids` int [B] names the
    prompt's group in this batch, `problem_ids` int [B] the problem for ever. `cap` int [B] is the cap each row
    was drawn under. `logp` float32 [B, T] is the behaviour log-probability under softmax(logits / temperature)
    before top-p. `policy_version` int [B, T] says which weights wrote each token.

    Optional, for methods that need them: `is_long` bool [B] is the mode that the row's prompt asked for, `obeys`
    bool [B] whether the response opens with that mode's word, `bare_prompt_ids` int [B, Q] the prompt without the
    method's own words, padded on the left with `NO_TOKEN`; `thinking_tokens` int [B] how many of the response's tokens
    are thinking, its closing mark among them. Where thinking is cut at budgets, `thinking_ids` int [B] names what rows
    share, `budget` int [B] the tokens at which it was cut, and `answer_start` int [B] counts those before the answer.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    mask: Tensor
    train_mask: Tensor
    num_tokens: Tensor
    finished: Tensor
    done: Tensor
    answer_correct: Tensor
    group_ids: Tensor
    problem_ids: Tensor
    cap: Tensor
    logp: Tensor
    policy_version: Tensor
    is_long: Tensor | None = None
    obeys: Tensor | None = None
    bare_prompt_ids: Tensor | None = None
    thinking_tokens: Tensor | None = None
    thinking_ids: Tensor | None = None
    budget: Tensor | None = None
    answer_start: Tensor | None = None

    def __post_init__(self) -> None:
        rows, width = self.completion_ids.shape
        for name in ("mask", "train_mask", "logp", "policy_version"):
            if getattr(self, name).shape != (rows, width):
                raise ShapeError(
                    f"{name} has shape {tuple(getattr(self, name).shape)} but completion_ids has {(rows, width)}; "
                    "give one entry per response token"
                )
        for name in ROW_FIELDS:
            if getattr(self, name) is not None and getattr(self, name).shape != (rows,):
                raise ShapeError(
                    f"{name} has shape {tuple(getattr(self, name).shape)} but there are {rows} rows; "
                    "give one entry per row"
                )
        if not torch.equal(self.mask.sum(1), self.num_tokens):
            raise ShapeError("num_tokens differs from mask.sum(1); count every response token, EOS included")

    @property
    def correct(self) -> Tensor:
        """Right and ended by EOS: what accuracy means everywhere. bool [B]."""
        return self.answer_correct & self.finished

    def __len__(self) -> int:
        return self.completion_ids.shape[0]

    def select(self, rows: Tensor) -> Rollouts:
        """The named rows (bool [B] or int [k]) as a batch of their own; ids stay as they are."""
        return Rollouts(**{field.name: getattr(self, field.name)[rows] for field in _present(self)})

    def trim(self) -> Rollouts:
        """The same rows without the columns that are padding in all of them."""
        width, start = int(self.num_tokens.max()), int(self.prompt_mask.any(0).nonzero()[0, 0])
        cut: dict[str, Tensor] = {name: getattr(self, name)[:, :width] for name in RESPONSE_FIELDS}
        cut |= {name: getattr(self, name)[:, start:] for name in PROMPT_FIELDS}
        return replace(self, **cut)

    def with_fields(self, **changes: Tensor) -> Rollouts:
        """A copy with some fields replaced; shapes are checked again."""
        return replace(self, **changes)

    def response(self, row: int) -> list[int]:
        """Token ids of one response, padding removed."""
        return self.completion_ids[row, : int(self.num_tokens[row])].tolist()

    def prompt(self, row: int) -> list[int]:
        """Token ids of one prompt, padding removed."""
        return self.prompt_ids[row][self.prompt_mask[row]].tolist()


def join(batches: list[Rollouts]) -> Rollouts:
    """Stack batches row-wise, padded to the widest; ids are kept, so callers number groups uniquely.

    Raises:
        ShapeError: no batch at all.
    """
    if not batches:
        raise ShapeError("join got no batches; give at least one")
    joined = {}
    for field in _present(batches[0]):
        parts = [getattr(batch, field.name) for batch in batches]
        if parts[0].dim() == 2:
            width = max(part.shape[1] for part in parts)
            left = field.name not in RESPONSE_FIELDS
            fill = NO_TOKEN if field.name == "bare_prompt_ids" else 0
            pads = [(width - p.shape[1], 0) if left else (0, width - p.shape[1]) for p in parts]
            parts = [torch.nn.functional.pad(p, pad, value=fill) for p, pad in zip(parts, pads, strict=True)]
        joined[field.name] = torch.cat(parts)
    return Rollouts(**joined)


def _present(rollouts: Rollouts) -> list[Field[Any]]:
    """The fields that a batch has, the optional ones only where they are given."""
    return [field for field in fields(rollouts) if getattr(rollouts, field.name) is not None]
