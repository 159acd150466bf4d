"""What the sampler has written so far, row by row on the host: begun empty or from rollouts, and made into rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lengthwise.engine.rollouts import Rollouts


@dataclass
class Decoded:
    """What a decode wrote, step by step: the rows in flight, their tokens, and which of them a world wrote."""

    rows: list[Tensor] = field(default_factory=list)
    tokens: list[Tensor] = field(default_factory=list)
    logps: list[Tensor] = field(default_factory=list)
    forced: list[Tensor] = field(default_factory=list)

    def add(self, rows: Tensor, tokens: Tensor, logps: Tensor, forced: Tensor) -> None:
        """One step more."""
        columns = (self.rows, self.tokens, self.logps, self.forced)
        for column, new in zip(columns, (rows, tokens, logps, forced), strict=True):
            column.append(new)


class Written:
    """The responses of B prompts while they are drawn, with what is known of each token; `caps` bound their lengths.

    `stop_repeats`: rows that go round in a circle are to be stopped; those that were are `stopped`.
    """

    def __init__(
        self, prompts: list[list[int]], responses: list[list[int]], caps: list[int], *, stop_repeats: bool = False
    ) -> None:
        self.prompts, self.responses, self.caps, self.stop_repeats = prompts, responses, caps, stop_repeats
        self.stopped: set[int] = set()
        self.logps: list[list[float]] = [[] for _ in prompts]
        self.trained: list[list[bool]] = [[] for _ in prompts]
        self.versions: list[list[int]] = [[] for _ in prompts]
        self.finished = [False] * len(prompts)
        # Kept only while a world watches; the plain path appends once, at the end of a decode.
        self.live: dict[int, list[int]] = {}

    @classmethod
    def of(cls, rollouts: Rollouts, prompts: list[list[int]], caps: list[int]) -> Written:
        """What rollouts hold, ready to be continued up to new caps."""
        responses = [rollouts.response(i) for i in range(len(rollouts))]
        found = cls(prompts, responses, caps)
        found.logps = [rollouts.logp[i, : len(r)].tolist() for i, r in enumerate(responses)]
        found.trained = [rollouts.train_mask[i, : len(r)].tolist() for i, r in enumerate(responses)]
        found.versions = [rollouts.policy_version[i, : len(r)].tolist() for i, r in enumerate(responses)]
        found.finished = rollouts.finished.tolist()
        return found

    @property
    def open_rows(self) -> list[int]:
        """The rows that may go on."""
        going = (i for i, r in enumerate(self.responses) if not self.finished[i] and len(r) < self.caps[i])
        return [i for i in going if i not in self.stopped]

    def context(self, row: int) -> list[int]:
        """A row's prompt and response so far."""
        return self.prompts[row] + self.responses[row]

    def length(self, row: int) -> int:
        """Tokens of a row's prompt and response so far."""
        return len(self.prompts[row]) + len(self.responses[row])

    def room(self, row: int) -> int:
        """Tokens that a row may still get."""
        return self.caps[row] - len(self.responses[row])

    def watch_anew(self, rows: Sequence[int]) -> None:
        """Let a world see these rows as they are now: what it was shown lacks the last token of a decode."""
        for row in rows:
            self.live.pop(row, None)

    def append(self, decoded: Decoded, eos_ids: Tensor) -> None:
        """Add what a decode wrote."""
        tokens = torch.cat(decoded.tokens)
        ended = torch.isin(tokens, eos_ids).tolist()
        columns = (torch.cat(part).tolist() for part in (decoded.rows, decoded.logps, decoded.forced))
        for row, logp, written, token, end in zip(*columns, tokens.tolist(), ended, strict=True):
            self.responses[row].append(token)
            self.logps[row].append(logp)
            self.trained[row].append(not written)
            self.finished[row] = end

    def rollouts(
        self, groups: Sequence[int], problems: Sequence[int], version: int, *, pad_id: int, device: torch.device
    ) -> Rollouts:
        """All rows as padded tensors, not graded yet; `version` is that of the tokens that have none."""
        prompt_ids, prompt_mask = pad_left(self.prompts, pad_id, device)
        lengths = torch.tensor([len(r) for r in self.responses], device=device)
        width = int(lengths.max())
        mask = torch.arange(width, device=device)[None] < lengths[:, None]
        versions = [v + [version] * (len(r) - len(v)) for v, r in zip(self.versions, self.responses, strict=True)]
        caps = torch.tensor(self.caps, device=device)
        finished = torch.tensor(self.finished, device=device)
        stopped = torch.tensor([row in self.stopped for row in range(len(self.prompts))], device=device)
        return Rollouts(
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask.bool(),
            completion_ids=_pad_right(self.responses, width, pad_id, torch.long, device),
            mask=mask,
            train_mask=_pad_right(self.trained, width, False, torch.bool, device),
            num_tokens=lengths,
            finished=finished,
            done=finished | stopped | (lengths >= caps),
            answer_correct=torch.zeros(len(groups), dtype=torch.bool, device=device),
            group_ids=torch.tensor(groups, device=device),
            problem_ids=torch.tensor(problems, device=device),
            cap=caps,
            logp=_pad_right(self.logps, width, 0.0, torch.float32, device),
            policy_version=_pad_right(versions, width, 0, torch.long, device),
        )


def pad_left(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [B, P] padded on the left and their mask (1 on real tokens) as int64."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def _pad_right(
    rows: Sequence[Sequence[float]], width: int, fill: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=dtype, device=device)
