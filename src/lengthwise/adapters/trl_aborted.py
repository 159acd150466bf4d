"""Responses without a token in TRL, which fails on them itself: each is given one, which is then taken away again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from trl import GRPOTrainer
    from trl.trainer.grpo_trainer import RolloutFunc

Filled: TypeAlias = tuple[list[Sequence[int]], list[Sequence[float]] | None]
"""Responses, and the log-probabilities of their tokens where they were asked for."""


class Aborted:
    """Which responses of a draw held no token, and how many since they were last counted.

    A sampler gives such responses where a request was aborted. They are no answers: `without` takes their token out
    of the mask, and who learns from a batch leaves rows without a token out.
    """

    def __init__(self) -> None:
        self._rows: list[bool] | None = None
        self._count = 0

    def begin(self) -> None:
        """A draw begins: what is sampled next are its responses, and what follows goes on with them."""
        self._rows = None

    def fill(
        self, responses: Sequence[Sequence[int]], logprobs: Sequence[Sequence[float]] | None, token: int
    ) -> Filled:
        """Responses and their log-probabilities as TRL can take them."""
        first = self._rows is None
        if self._rows is None:
            self._rows = [len(response) == 0 for response in responses]
        filled = [response if len(response) or not first else [token] for response in responses]
        scored: list[Sequence[float]] | None = None
        if logprobs is not None:
            scored = [row if len(row) or not first else [0.0] for row in logprobs]
        return filled, scored

    def filling(self, rollout_func: RolloutFunc) -> RolloutFunc:
        """A rollout function of the user's, whose responses may be empty."""

        def respond(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
            given = dict(rollout_func(prompts, trainer))
            token = trainer.eos_token_ids[0]
            if {"completion_ids", "logprobs"} <= given.keys():  # TRL says it where one is missing
                filled = self.fill(given["completion_ids"], given["logprobs"], token)
                given["completion_ids"], given["logprobs"] = filled
            if given.get("env_mask") is not None:
                given["env_mask"] = [row if len(row) else [1] for row in given["env_mask"]]
            return given

        return respond

    def without(self, mask: Tensor) -> Tensor:
        """The mask bool [B, T] of a process's responses without the tokens that were filled in."""
        return mask if self._rows is None else mask & ~torch.tensor(self._rows, device=mask.device)[:, None]

    def note(self, count: int) -> None:
        """So many rows were left out."""
        self._count += count

    def counted(self) -> int:
        """Rows left out since this was last asked."""
        count, self._count = self._count, 0
        return count
