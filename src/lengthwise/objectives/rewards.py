"""Rewards: pure functions of verdicts, token counts and group ids, one number per row.

Shapes: B rows (rollouts). The truncation rewards are here and take the raw verdict beside ``finished``; the
others take ``correct`` (right and finished) and are imported from their families, so that
`lengthwise.objectives.rewards` has every name. A reward in which the length enters as a number is float64:
next to a verdict of 1, float32 would round a price of 1e-7 per token away (on `mps`, which has no float64, it does).
Steps between a few values are float32. Each is a reward and nothing else; the advantage that follows decides what a
length term weighs, so name it with every result.
"""

from __future__ import annotations

import torch

from lengthwise.errors import ConfigError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._groups import group_share
from lengthwise.objectives.group_rewards import adaptive_penalty as adaptive_penalty
from lengthwise.objectives.group_rewards import best_solved as best_solved
from lengthwise.objectives.group_rewards import min_max_length as min_max_length
from lengthwise.objectives.group_rewards import normalised_length as normalised_length
from lengthwise.objectives.group_rewards import selective_length_penalty as selective_length_penalty
from lengthwise.objectives.group_rewards import shortest_correct as shortest_correct
from lengthwise.objectives.mode_rewards import mode_reward as mode_reward
from lengthwise.objectives.mode_rewards import preferred_mode as preferred_mode
from lengthwise.objectives.row_rewards import budget_exact as budget_exact
from lengthwise.objectives.row_rewards import budget_max as budget_max
from lengthwise.objectives.row_rewards import cosine_length as cosine_length
from lengthwise.objectives.row_rewards import linear_price as linear_price
from lengthwise.objectives.row_rewards import reference_ratio as reference_ratio
from lengthwise.objectives.row_rewards import soft_overlong as soft_overlong
from lengthwise.objectives.state_rewards import adaptive_weight as adaptive_weight
from lengthwise.objectives.state_rewards import difficulty_tier as difficulty_tier
from lengthwise.objectives.state_rewards import history_length as history_length
from lengthwise.objectives.state_rewards import step_bonus as step_bonus
from lengthwise.objectives.state_rewards import tier_targets as tier_targets
from lengthwise.objectives.state_rewards import updated_history as updated_history
from lengthwise.objectives.state_rewards import updated_weight as updated_weight


def truncation(
    answer_correct: torch.Tensor,
    num_tokens: torch.Tensor,
    finished: torch.Tensor,
    *,
    limit: int | torch.Tensor,
    cut_reward: float = 0.0,
) -> torch.Tensor:
    """Reward 1 for a correct answer that finished within the limit, else 0 (or ``cut_reward`` if correct).

    R_i = c_i · (1 if finished_i and n_i ≤ limit_i else cut_reward).

    DLER: Doing Length pEnalty Right - Incentivizing More Intelligence per Token via Reinforcement Learning,
    arXiv 2510.15110. Differs from the authors' code: ``cut_reward`` is 0 as in the paper; the code pays 0.1.

    Args:
        answer_correct: bool [B], the grader's verdict on the text, whether or not it was cut.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        finished: bool [B], ended by EOS.
        limit: tokens, at least 1: an int, or an integer tensor [B] when each row was drawn under its own cap.
        cut_reward: what a correct answer earns that was cut or is longer than its limit, in [0, 1].

    Returns:
        float32 [B] in {0, cut_reward, 1}. No group enters, so a group of one, an all-correct or an all-wrong
        group changes nothing. Empty input gives an empty tensor.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or a limit below 1 in a tensor.
        ConfigError: a limit or ``cut_reward`` out of range.
    """
    checks.flags("answer_correct", answer_correct)
    checks.counts("num_tokens", num_tokens)
    checks.flags("finished", finished)
    checks.same_rows(answer_correct=answer_correct, num_tokens=num_tokens, finished=finished)
    checks.tokens("limit", limit, num_tokens)
    checks.number("cut_reward", cut_reward, low=0.0, high=1.0)

    # int64, because an int32 count would be compared with a limit wrapped to 32 bits
    whole = (finished & (num_tokens.long() <= limit)).float()
    return answer_correct * (whole + cut_reward * (1 - whole))


def _check_tiers(limits: tuple[int, ...] | list[int], thresholds: tuple[float, ...] | list[float]) -> None:
    for name, value in (("limits", limits), ("thresholds", thresholds)):
        if not isinstance(value, (tuple, list)):
            raise ConfigError(f"{name} is {value!r}; pass a tuple or a list")
    if len(limits) != len(thresholds) + 1:
        raise ConfigError(
            f"limits has {len(limits)} entries but thresholds has {len(thresholds)}; "
            "pass one limit more than thresholds"
        )
    for position, limit in enumerate(limits):
        checks.whole(f"limits[{position}]", limit, low=1)
    for position, threshold in enumerate(thresholds):
        checks.number(f"thresholds[{position}]", threshold, low=0.0, high=1.0)
    if list(limits) != sorted(set(limits), reverse=True):
        raise ConfigError(f"limits is {limits!r}; pass strictly falling lengths, the longest first")
    if list(thresholds) != sorted(set(thresholds)):
        raise ConfigError(f"thresholds is {thresholds!r}; pass strictly rising shares")


def difficulty_truncation(
    answer_correct: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    finished: torch.Tensor,
    *,
    limits: tuple[int, ...] | list[int],
    thresholds: tuple[float, ...] | list[float],
    cut_reward: float = 0.0,
) -> torch.Tensor:
    """Truncation reward whose limit gets shorter where the group solves the prompt more often (DA-DLER).

    p_g = share of rows of group g with c_i and finished_i and n_i ≤ limits[0];
    k = number of thresholds strictly below p_g;  R_i = truncation with limit limits[k].

    DLER, arXiv 2510.15110 (0.5 and 4000, 2000 there). The authors published no code for it. Inferred here: p
    is measured within the longest limit and the group is then scored again with its own; p equal to a
    threshold keeps the longer limit.

    Args:
        answer_correct: bool [B], the grader's verdict on the text, whether or not it was cut.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        finished: bool [B], ended by EOS.
        limits: strictly falling tokens, each at least 1; one more than ``thresholds``.
        thresholds: strictly rising shares in [0, 1].
        cut_reward: as in `truncation`, in [0, 1].

    Returns:
        float32 [B] in {0, cut_reward, 1}. A group of one has p of 0 or 1; an all-correct group gets the
        shortest limit whose threshold is below 1; an all-wrong group the longest, and 0. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count.
        ConfigError: limits, thresholds or ``cut_reward`` out of range or out of order.
    """
    checks.ids("group_ids", group_ids)
    _check_tiers(limits, thresholds)
    within = truncation(answer_correct, num_tokens, finished, limit=limits[0]) > 0
    checks.same_rows(answer_correct=answer_correct, group_ids=group_ids)

    share = group_share(within, group_ids)
    edges = torch.tensor(list(thresholds), dtype=share.dtype, device=share.device)
    tier = (edges < share[:, None]).sum(dim=1)
    limit = torch.tensor(list(limits), device=share.device)[tier]
    return truncation(answer_correct, num_tokens, finished, limit=limit, cut_reward=cut_reward)
