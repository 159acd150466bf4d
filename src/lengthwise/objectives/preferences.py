"""Pairs for preference training on two groups of responses to one problem, a long and a short one (Ada-R1).

Shapes: S samples per problem (the two groups may differ in size), M pairs. Everything is offline and about one
problem at a time; positions count inside the group that was passed.
Ada-R1: Hybrid-CoT via Bi-Level Adaptive Reasoning Optimization, arXiv 2504.21659.
"""

from __future__ import annotations

import torch

from lengthwise.errors import InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._wide import wide
from lengthwise.objectives.mode_rewards import LONG, NO_MODE, SHORT

# accuracies are ratios of small integers; the slack makes a gap of exactly epsilon count as equal
_SLACK = 1e-9


def preferred_group(correct_long: torch.Tensor, correct_short: torch.Tensor, *, epsilon: float | None = None) -> int:
    """Return which group of responses suits the problem: −1 none, 0 short, 1 long.

    None if no response is right; long if acc_L − acc_S > epsilon; else short.

    Ada-R1, arXiv 2504.21659. Differs from the authors' code: the gap of accuracies alone decides; theirs is
    scaled by the gap of lengths, whose sign can turn the choice around. Unverified: epsilon = 1/(2S) is the
    code's; the paper only says above 0.

    Args:
        correct_long: bool [S], verdicts on the samples of the long model, at least one.
        correct_short: bool [S], the same of the short model.
        epsilon: lead that long needs, in [0, 1]; None takes 1/(2S), so that any lead is enough.

    Returns:
        An int. A single sample each is enough: long needs to be the only right one.

    Raises:
        ShapeError: not bool [S].
        InputError: an empty group, or groups of unlike size without an epsilon.
        ConfigError: ``epsilon`` out of range.
    """
    for name, verdicts in (("correct_long", correct_long), ("correct_short", correct_short)):
        checks.flags(name, verdicts)
        if len(verdicts) == 0:
            raise InputError(f"{name} has no entry; pass at least one sample of each group")
    if epsilon is None:
        if len(correct_long) != len(correct_short):
            raise InputError(
                f"correct_long has {len(correct_long)} entries but correct_short has {len(correct_short)}; "
                "pass epsilon, whose default needs groups of one size"
            )
        epsilon = 1 / (2 * len(correct_long))
    checks.number("epsilon", epsilon, low=0.0, high=1.0)

    long_share, short_share = float(wide(correct_long).mean()), float(wide(correct_short).mean())
    if long_share == short_share == 0:
        return NO_MODE
    return LONG if long_share - short_share > epsilon + _SLACK else SHORT


def group_pairs(
    correct_chosen: torch.Tensor, correct_rejected: torch.Tensor, *, seed: int, most: int = 4, narrow: bool = False
) -> torch.Tensor:
    """Draw pairs of a response of the preferred group and one of the other, without repetition.

    M = min(most, number of pairs) of {(y_w, y_l) : y_w in the chosen group, y_l in the rejected one}.

    Ada-R1, arXiv 2504.21659. Differs from the authors' code: whole groups; ``narrow`` is theirs: of the chosen
    group the right ones if any, of the rejected one the wrong ones if any.

    Args:
        correct_chosen: bool [S], verdicts on the preferred group.
        correct_rejected: bool [S], verdicts on the other group.
        seed: of the draw, at least 0; the same seed draws the same pairs.
        most: pairs to draw, at least 1.
        narrow: the code's rule.

    Returns:
        int64 [M,2]: position in the chosen group, position in the rejected one. An empty group gives no pair;
        all-correct and all-wrong groups pair like any other.

    Raises:
        ShapeError: not bool [S].
        ConfigError: an option out of range.
    """
    checks.flags("correct_chosen", correct_chosen)
    checks.flags("correct_rejected", correct_rejected)
    checks.whole("seed", seed, low=0)
    checks.whole("most", most, low=1)

    winners, losers = _members(correct_chosen, narrow), _members(~correct_rejected, narrow)
    order = torch.randperm(len(winners) * len(losers), generator=torch.Generator().manual_seed(seed))[:most]
    order = order.to(winners.device)
    if len(order) == 0:
        return winners.new_zeros(0, 2)
    return torch.stack([winners[order // len(losers)], losers[order % len(losers)]], dim=1)


def _members(wanted: torch.Tensor, narrow: bool) -> torch.Tensor:
    """Return the positions of the wanted ones if any and if narrow, else all positions."""
    keep = wanted if narrow and bool(wanted.any()) else torch.ones_like(wanted)
    return keep.nonzero()[:, 0]


def instance_pairs(
    correct: torch.Tensor, num_tokens: torch.Tensor, *, most: int = 2, narrow: bool = False
) -> torch.Tensor:
    """Pair the shortest right response of the preferred group with its longest responses.

    y_w the shortest right one; y_l each of the ``most`` longest of the whole group but y_w itself, which is not
    replaced. Equal lengths: the first in the group.

    Ada-R1, arXiv 2504.21659. Differs from the authors' code: the longest of the whole group; ``narrow`` is
    theirs, the longest of the right ones. A pair of a response with itself, possible in their code, is dropped.

    Args:
        correct: bool [S], verdicts on the preferred group.
        num_tokens: integer [S], response tokens with EOS, at least 0.
        most: longest responses to take, at least 1.
        narrow: the code's rule.

    Returns:
        int64 [M,2], M ≤ most: position of y_w, position of y_l. No pair for a group of one, an all-wrong or an
        empty group; an all-correct group is nothing special.

    Raises:
        ShapeError: wrong type, rank, dtype or length.
        InputError: a negative token count.
        ConfigError: ``most`` out of range.
    """
    checks.answers(correct, num_tokens)
    checks.whole("most", most, low=1)
    right = correct.nonzero()[:, 0]
    if len(right) == 0:
        return right.new_zeros(0, 2)

    # stable sorts, because argmin and topk may return any of several equal lengths
    best = right[torch.argsort(num_tokens[right], stable=True)[0]]
    pool = _members(correct, narrow)
    longest = pool[torch.argsort(num_tokens[pool], descending=True, stable=True)[:most]]
    rejected = longest[longest != best]
    return torch.stack([best.expand_as(rejected), rejected], dim=1)
