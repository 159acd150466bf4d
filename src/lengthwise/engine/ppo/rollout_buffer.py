"""Responses on their way: what T-PPO's loop keeps of each between its windows, and the queue they wait in.

Shapes: B rows (responses), T response tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lengthwise.engine.backends.transformers_sampler import pad_left
from lengthwise.engine.rollouts import Rollouts


@dataclass
class Response:
    """One response with all it needs to go on: plain numbers, so that a checkpoint holds it exactly.

    `serial` is its name for ever, its place in the order in which responses are begun; `problem` and `group` are
    as in `Rollouts`, `cap` the most tokens it may have. `tokens`, `trained` (the policy may learn from it),
    `logps`, `versions` and `values` (by the value model when the token was new) have one entry per response
    token. `start` is where the current window begins, `finished` means ended by EOS.
    """

    serial: int
    problem: int
    group: int
    cap: int
    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    trained: list[bool] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    start: int = 0
    finished: bool = False

    @property
    def done(self) -> bool:
        """Finished, or at its cap: nothing more will be written."""
        return self.finished or len(self.tokens) >= self.cap

    def extend(self, written: Rollouts, row: int) -> None:
        """Take over what the sampler wrote in this row; the new tokens are the current window."""
        self.start, end = len(self.tokens), int(written.num_tokens[row])
        self.tokens = written.response(row)
        self.trained = written.train_mask[row, :end].tolist()
        self.logps = written.logp[row, :end].tolist()
        self.versions = written.policy_version[row, :end].tolist()
        self.finished = bool(written.finished[row])


class Pool:
    """The queue of responses that are not done: first in, first out, and before everything new."""

    def __init__(self, waiting: Iterable[Response] = ()) -> None:
        self.waiting = list(waiting)

    @classmethod
    def from_state(cls, state: Iterable[Mapping[str, Any]]) -> Pool:
        """The pool that `state` was taken of."""
        return cls(Response(**fields) for fields in state)

    @property
    def state(self) -> list[dict[str, object]]:
        """All that waits, as JSON values, for checkpoints."""
        return [dict(vars(response)) for response in self.waiting]

    def take(self, count: int, begin: Callable[[int], list[Response]]) -> list[Response]:
        """Up to `count` responses to go on with: those that wait, then only as many new ones as slots are free.

        `begin(free)` starts at most `free` new ones; fewer, once there are no more prompts, let the pool drain.
        """
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        return batch + begin(count - len(batch))

    def requeue(self, batch: Iterable[Response]) -> None:
        """Put back every response of the batch that is not done; the done ones leave the pool."""
        self.waiting += [response for response in batch if not response.done]


def as_rollouts(
    responses: Sequence[Response], *, pad_id: int, device: torch.device, first: Sequence[int] | None = None
) -> Rollouts:
    """The responses as one batch, from token `first[i]` on (default: all of it).

    What was written before `first[i]` stands in the prompt: it is context and nothing else. Verdicts are all False.
    """
    begin = [0] * len(responses) if first is None else list(first)
    contexts = [r.prompt + r.tokens[:at] for r, at in zip(responses, begin, strict=True)]
    prompt_ids, prompt_mask = pad_left(contexts, pad_id, device)

    def column(name: str, dtype: torch.dtype, fill: int = 0) -> Tensor:
        return padded([getattr(r, name)[at:] for r, at in zip(responses, begin, strict=True)], dtype, device, fill)

    def row(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, device=device)

    lengths = row([len(r.tokens) - at for r, at in zip(responses, begin, strict=True)])
    ids = column("tokens", torch.long, pad_id)
    return Rollouts(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask.bool(),
        completion_ids=ids,
        mask=torch.arange(ids.shape[1], device=device)[None] < lengths[:, None],
        train_mask=column("trained", torch.bool),
        num_tokens=lengths,
        finished=row([r.finished for r in responses]),
        done=row([r.done for r in responses]),
        answer_correct=row([False] * len(responses)),
        group_ids=row([r.group for r in responses]),
        problem_ids=row([r.problem for r in responses]),
        cap=row([r.cap for r in responses]),
        logp=column("logps", torch.float32),
        policy_version=column("versions", torch.long),
    )


def padded(rows: Sequence[Sequence[float]], dtype: torch.dtype, device: torch.device, fill: int = 0) -> Tensor:
    """Rows of unlike length as one tensor [B, T], filled up on the right."""
    parts = [torch.tensor(row, dtype=dtype) for row in rows]
    return pad_sequence(parts, batch_first=True, padding_value=fill).to(device)
