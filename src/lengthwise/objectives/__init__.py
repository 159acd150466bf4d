"""The mathematics of every method, as pure functions of torch tensors: no state, no files, no logging.

Shape legend of the whole package: B rows (rollouts), T response tokens, V vocabulary, P problems, S samples
per problem. Group ids are explicit and rows may come in any order. The names below are the public interface.
"""

from __future__ import annotations

from lengthwise.objectives.advantages import batch_normalised as batch_normalised
from lengthwise.objectives.advantages import group_normalised as group_normalised
from lengthwise.objectives.advantages import kept_share as kept_share
from lengthwise.objectives.advantages import leave_one_out as leave_one_out
from lengthwise.objectives.advantages import mixed_groups as mixed_groups
from lengthwise.objectives.losses import clipped_surrogate as clipped_surrogate
from lengthwise.objectives.losses import kl_penalty as kl_penalty
from lengthwise.objectives.losses import loss_normaliser as loss_normaliser
from lengthwise.objectives.rewards import difficulty_truncation as difficulty_truncation
from lengthwise.objectives.rewards import truncation as truncation
from lengthwise.objectives.schedules import constant_cap as constant_cap
from lengthwise.objectives.schedules import round_half_up as round_half_up

__all__ = [
    "batch_normalised",
    "clipped_surrogate",
    "constant_cap",
    "difficulty_truncation",
    "group_normalised",
    "kept_share",
    "kl_penalty",
    "leave_one_out",
    "loss_normaliser",
    "mixed_groups",
    "round_half_up",
    "truncation",
]
