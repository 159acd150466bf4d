"""Responses that go round in a circle: a stop for them where it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WINDOW, LONGEST_PIECE = 256, 64
"""A response repeats itself once its last 256 tokens are one piece of at most 64 tokens, four times and more."""
EVERY = 16
"""Steps between two looks."""


def repeats(window: Tensor) -> Tensor:
    """Whether each row of tokens int [B, W] has a period of at most `LONGEST_PIECE`, bool [B]."""
    found = torch.zeros(len(window), dtype=torch.bool, device=window.device)
    for period in range(1, LONGEST_PIECE + 1):
        found |= (window[:, period:] == window[:, :-period]).all(1)
    return found


class Recent:
    """The last `WINDOW` tokens of the responses in flight; rows that have fewer repeat nothing yet."""

    def __init__(self, responses: Sequence[Sequence[int]], device: torch.device) -> None:
        self._window = _windows(responses, device)
        self._steps = torch.zeros(len(responses), dtype=torch.long, device=device)

    def add(self, tokens: Tensor) -> Tensor:
        """Take the next token of every row, int [B]; which rows repeat themselves, looked at in `EVERY` tokens each."""
        self._window = torch.cat([self._window[:, 1:], tokens[:, None]], 1)
        self._steps += 1
        found = torch.zeros_like(tokens, dtype=torch.bool)
        due = (self._steps % EVERY == 0).nonzero()[:, 0]
        if len(due):
            found[due] = repeats(self._window[due])
        return found

    def keep(self, index: Tensor) -> None:
        """Go on with some of the rows."""
        self._window, self._steps = self._window[index], self._steps[index]

    def take_in(self, responses: Sequence[Sequence[int]]) -> None:
        """Go on with these rows too, behind the others."""
        new = _windows(responses, self._window.device)
        self._window = torch.cat([self._window, new])
        self._steps = torch.cat([self._steps, self._steps.new_zeros(len(new))])


def _windows(responses: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """The last `WINDOW` tokens of each; what is not written yet are numbers that no token has and that come once."""
    return torch.tensor([[*range(-WINDOW, 0), *response][-WINDOW:] for response in responses], device=device)
