"""A scored batch, dealt out to the updates, micro-batches and processes of an engine. Pure: knows no engine.

However rows are dealt, the parts' gradients add up to those of the mini-batch in one piece: denominators are the
mini-batch's, and a loss that couples a group sees the whole mini-batch, of which only the part's rows have a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import torch
from torch import Tensor

from lengthwise.engine.batches import mini_batches
from lengthwise.engine.method import LossInputs, Method, State, finite
from lengthwise.engine.rollouts import Rollouts, join
from lengthwise.errors import InputError, TrainingError
from lengthwise.objectives import kl_penalty


@dataclass(frozen=True)
class Batch:
    """Rollouts with what an engine found beside them, float [B, T] each.

    `old` and `reference`: log-probabilities under the weights that drew and under the starting weights;
    `importance`: weights between sampler and trainer.
    """

    rollouts: Rollouts
    beside: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.rollouts)

    def select(self, rows: Tensor) -> Batch:
        """The named rows as a batch of their own."""
        return Batch(self.rollouts.select(rows), {name: value[rows] for name, value in self.beside.items()})

    def answers(self) -> Batch:
        """The rows that hold a response token; others were aborted and are no answers."""
        return self.select(self.rollouts.num_tokens > 0)

    def trim(self) -> Batch:
        """The same rows without the columns that are padding in all of them."""
        cut = self.rollouts.trim()
        return Batch(cut, {name: value[:, : cut.mask.shape[1]] for name, value in self.beside.items()})

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        moved = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in vars(self.rollouts).items()}
        return Batch(replace(self.rollouts, **moved), {name: value.to(device) for name, value in self.beside.items()})


def join_batches(batches: Sequence[Batch]) -> Batch:
    """Stack batches row-wise, padded to the widest."""
    rollouts = join([batch.rollouts for batch in batches])
    width = rollouts.mask.shape[1]
    beside = {}
    for name in batches[0].beside:
        parts = [batch.beside[name] for batch in batches]
        beside[name] = torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])
    return Batch(rollouts, beside)


def credited(method: Method, rollouts: Rollouts, state: State) -> tuple[Tensor, Tensor]:
    """Rewards float [B] and advantages [B] or [B, T] of a method; rows without a response token get 0 in both.

    An engine gives such rows where a response was aborted, or to fill a batch up. They are no answers: they are left
    out of every statistic, so that the other rows' numbers are those of the batch without them.

    Raises:
        TrainingError: the method gives a row a number that is not finite.
    """
    live = rollouts.num_tokens > 0
    part = rollouts.select(live)
    if not len(part):
        blank = torch.zeros(len(rollouts), device=live.device)
        return blank, blank.clone()
    rewards = finite(method.name, "reward", method.reward(part, state))
    advantages = finite(method.name, "advantage", method.advantage(rewards, part))
    return _spread(rewards, live), _spread(advantages, live)


def _spread(values: Tensor, live: Tensor) -> Tensor:
    """Values of the live rows at their places among all rows, 0 elsewhere."""
    everything = values.new_zeros(len(live), *values.shape[1:])
    everything[live] = values
    return everything


def verdicts_of(scores: Tensor) -> Tensor:
    """What graders said, float [B, F], as right or wrong, bool [B].

    Raises:
        InputError: not exactly one grader, or a score that is neither 1 nor 0.
    """
    if scores.shape[1] != 1:
        raise InputError(
            f"reward_funcs holds {scores.shape[1]} functions; a method makes the reward itself and takes one verdict: "
            "give one function that returns 1 for a right answer and 0 for a wrong one"
        )
    column = scores[:, 0]
    odd = ((column != 0) & (column != 1)).nonzero()
    if len(odd):
        raise InputError(
            f"the reward function gave {float(column[odd[0, 0]]):g} for row {int(odd[0, 0])}; a method makes the "
            "reward itself: return 1 for a right answer and 0 for a wrong one"
        )
    return column == 1


@dataclass
class Mini:
    """One update's rows and facts of all of them; `parts[micro][process]` are the rows int [k] of one micro-batch.

    `whole` holds log-probabilities [B, T] of all rows under the present weights, for a loss that couples them.
    """

    batch: Batch
    advantages: Tensor
    normaliser: float
    tokens: float
    parts: list[list[Tensor]]
    whole: Tensor | None = None

    @property
    def pieces(self) -> int:
        """Micro-batches in all, over all processes."""
        return sum(len(micro) for micro in self.parts)


class Piece(TypedDict):
    """What an engine is given for one backward pass: a mini-batch, and which part of it."""

    mini: Mini
    micro: int


def deal(
    batch: Batch,
    advantages: Tensor,
    method: Method,
    *,
    updates: int,
    micro: int,
    processes: int,
    generator: torch.Generator,
) -> list[Mini]:
    """Deal a batch out to `updates` mini-batches of whole groups, each to `micro` parts on `processes` processes.

    Parts hold rows of like length, whatever their group. Rows without a token to learn from are in none, and no
    denominator counts them. With fewer groups than updates the last mini-batches are empty: they stand for updates
    that change nothing but the optimizer's memory.

    Raises:
        TrainingError: no row has a token to learn from.
    """
    learnt = batch.rollouts.train_mask.any(1)
    if not bool(learnt.all()):
        batch, advantages = batch.select(learnt), advantages[learnt]
    if not len(batch):
        raise TrainingError(f"none of {len(learnt)} responses has a token to learn from; see what the engine sampled")
    minis = [
        _mini(batch, advantages, method, rows, micro, processes)
        for rows in mini_batches(batch.rollouts.group_ids, updates, generator)
    ]
    empty = torch.zeros(0, dtype=torch.long)
    while len(minis) < updates:
        minis.append(replace(minis[0], parts=[[empty] * processes for _ in range(micro)], whole=None))
    return minis


def _mini(batch: Batch, advantages: Tensor, method: Method, rows: Tensor, micro: int, processes: int) -> Mini:
    part = batch.select(rows)
    mask = part.rollouts.train_mask
    totals = part.rollouts.prompt_mask.sum(1) + part.rollouts.num_tokens
    ordered = totals.argsort(stable=True)
    return Mini(
        part,
        advantages[rows],
        method.normaliser(part.rollouts),
        float(mask.sum()),
        [[chunk[process::processes] for process in range(processes)] for chunk in ordered.tensor_split(micro)],
    )


def sees_all(method: Method) -> bool:
    """Whether a part's loss needs the log-probabilities of its whole mini-batch."""
    return method.coupling == "group" or method.shared is not None


def part_loss(method: Method, mini: Mini, rows: Tensor, part: Batch, logp: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one part, to be added up over all parts, and its statistics.

    `part` is `mini.batch` cut to `rows`, `logp` float32 [k, T] its log-probabilities with gradient.
    """
    width = logp.shape[1]
    if method.coupling == "group":
        loss, stats = _coupled(method, mini, rows, logp)
    else:
        old = part.beside.get("old", logp.detach())
        credit = mini.advantages[rows.to(mini.advantages.device)].to(logp.device)
        credit = credit if credit.dim() == 1 else credit[:, :width]
        if "importance" in part.beside:
            credit = part.beside["importance"] * (credit if credit.dim() == 2 else credit[:, None])
        shared = None if method.shared is None else _shared(method, mini)
        given = LossInputs(logp, old, credit, part.rollouts.train_mask, part.rollouts, mini.normaliser, shared)
        loss, stats = method.loss(given)
    if "reference" in part.beside:
        penalty = kl_penalty(
            logp, part.beside["reference"], part.rollouts.train_mask, kind=method.kl_kind, normaliser=mini.tokens
        )
        loss, stats = loss + method.kl_coef * penalty, stats | {"reference_kl": penalty.detach()}
    return loss, stats


def _coupled(method: Method, mini: Mini, rows: Tensor, logp: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The whole mini-batch's loss: its gradient is that of this part's rows, its value a piece's share."""
    rollouts, everything = mini.batch.rollouts, logp
    width = rollouts.mask.shape[1]
    if mini.whole is not None:
        everything = mini.whole.to(logp).clone()
        everything[rows.to(logp.device), : logp.shape[1]] = logp
    else:  # a single piece; its rows come in another order
        everything = torch.zeros(len(rollouts), width, dtype=logp.dtype, device=logp.device)
        everything[rows.to(logp.device), : logp.shape[1]] = logp
    moved = mini.batch.to(logp.device)
    old = moved.beside.get("old", everything.detach())
    mask = moved.rollouts.train_mask
    shared = None if method.shared is None else method.shared(everything.detach(), old, mask)
    credit = mini.advantages.to(logp.device)
    loss, stats = method.loss(LossInputs(everything, old, credit, mask, moved.rollouts, mini.normaliser, shared))
    share = 1 / mini.pieces
    value = loss.detach() * share
    return loss + (value - loss.detach()), {name: stat * share for name, stat in stats.items()}


def _shared(method: Method, mini: Mini) -> object:
    assert method.shared is not None and mini.whole is not None, "a shared fact is of the whole mini-batch"
    old = mini.batch.beside.get("old", mini.whole.to(mini.batch.rollouts.mask.device))
    return method.shared(mini.whole.to(old.device), old, mini.batch.rollouts.train_mask)
