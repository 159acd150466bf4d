"""The mathematics of every method, as pure functions of torch tensors: no state, no files, no logging.

Shape legend of the whole package: B rows (rollouts), T response tokens, V vocabulary, P problems, S samples
per problem. Group ids are explicit and rows may come in any order. The names below are the public interface.
"""

from __future__ import annotations

from lengthwise.objectives.advantages import batch_normalised as batch_normalised
from lengthwise.objectives.advantages import egae as egae
from lengthwise.objectives.advantages import gae as gae
from lengthwise.objectives.advantages import group_normalised as group_normalised
from lengthwise.objectives.advantages import kept_share as kept_share
from lengthwise.objectives.advantages import leave_one_out as leave_one_out
from lengthwise.objectives.advantages import length_adaptive_lambda as length_adaptive_lambda
from lengthwise.objectives.advantages import length_weighted_baseline as length_weighted_baseline
from lengthwise.objectives.advantages import mixed_groups as mixed_groups
from lengthwise.objectives.advantages import returns_to_go as returns_to_go
from lengthwise.objectives.advantages import whitened as whitened
from lengthwise.objectives.advantages import window_mask as window_mask
from lengthwise.objectives.budgets import budget_answers as budget_answers
from lengthwise.objectives.budgets import budget_relative as budget_relative
from lengthwise.objectives.budgets import budget_weights as budget_weights
from lengthwise.objectives.budgets import drawn_budgets as drawn_budgets
from lengthwise.objectives.budgets import even_budgets as even_budgets
from lengthwise.objectives.budgets import segment_credit as segment_credit
from lengthwise.objectives.budgets import separated_truncation as separated_truncation
from lengthwise.objectives.constrained import constrained_cost as constrained_cost
from lengthwise.objectives.constrained import updated_multiplier as updated_multiplier
from lengthwise.objectives.distillation import reverse_kl as reverse_kl
from lengthwise.objectives.distillation import reverse_kl_of_states as reverse_kl_of_states
from lengthwise.objectives.distillation import teacher_is_copied as teacher_is_copied
from lengthwise.objectives.exits import entropy_exit as entropy_exit
from lengthwise.objectives.exits import trial_confidence as trial_confidence
from lengthwise.objectives.gates import gate as gate
from lengthwise.objectives.gates import gate_metrics as gate_metrics
from lengthwise.objectives.gates import guarded_product as guarded_product
from lengthwise.objectives.gates import order_gap as order_gap
from lengthwise.objectives.gates import probe_groups as probe_groups
from lengthwise.objectives.losses import clipped_surrogate as clipped_surrogate
from lengthwise.objectives.losses import clipped_value as clipped_value
from lengthwise.objectives.losses import drpo as drpo
from lengthwise.objectives.losses import drpo_questions as drpo_questions
from lengthwise.objectives.losses import drpo_weights as drpo_weights
from lengthwise.objectives.losses import explained_variance as explained_variance
from lengthwise.objectives.losses import filtered_likelihood as filtered_likelihood
from lengthwise.objectives.losses import filtered_normaliser as filtered_normaliser
from lengthwise.objectives.losses import kl_penalty as kl_penalty
from lengthwise.objectives.losses import loss_normaliser as loss_normaliser
from lengthwise.objectives.losses import mode_switch as mode_switch
from lengthwise.objectives.losses import positive_lm as positive_lm
from lengthwise.objectives.preferences import group_pairs as group_pairs
from lengthwise.objectives.preferences import instance_pairs as instance_pairs
from lengthwise.objectives.preferences import preferred_group as preferred_group
from lengthwise.objectives.relative_rewards import efficiency_bonus as efficiency_bonus
from lengthwise.objectives.relative_rewards import group_length_bonus as group_length_bonus
from lengthwise.objectives.relative_rewards import max_share_penalty as max_share_penalty
from lengthwise.objectives.relative_rewards import relative_length as relative_length
from lengthwise.objectives.reward_decoupling import decoupled_advantage as decoupled_advantage
from lengthwise.objectives.rewards import adaptive_penalty as adaptive_penalty
from lengthwise.objectives.rewards import adaptive_weight as adaptive_weight
from lengthwise.objectives.rewards import best_solved as best_solved
from lengthwise.objectives.rewards import budget_exact as budget_exact
from lengthwise.objectives.rewards import budget_max as budget_max
from lengthwise.objectives.rewards import cosine_length as cosine_length
from lengthwise.objectives.rewards import difficulty_tier as difficulty_tier
from lengthwise.objectives.rewards import difficulty_truncation as difficulty_truncation
from lengthwise.objectives.rewards import history_length as history_length
from lengthwise.objectives.rewards import linear_price as linear_price
from lengthwise.objectives.rewards import min_max_length as min_max_length
from lengthwise.objectives.rewards import mode_reward as mode_reward
from lengthwise.objectives.rewards import normalised_length as normalised_length
from lengthwise.objectives.rewards import preferred_mode as preferred_mode
from lengthwise.objectives.rewards import reference_ratio as reference_ratio
from lengthwise.objectives.rewards import selective_length_penalty as selective_length_penalty
from lengthwise.objectives.rewards import shortest_correct as shortest_correct
from lengthwise.objectives.rewards import soft_overlong as soft_overlong
from lengthwise.objectives.rewards import step_bonus as step_bonus
from lengthwise.objectives.rewards import tier_targets as tier_targets
from lengthwise.objectives.rewards import truncation as truncation
from lengthwise.objectives.rewards import updated_history as updated_history
from lengthwise.objectives.rewards import updated_weight as updated_weight
from lengthwise.objectives.scaled_penalties import effort_reward as effort_reward
from lengthwise.objectives.scaled_penalties import gated_decay as gated_decay
from lengthwise.objectives.scaled_penalties import linear_length as linear_length
from lengthwise.objectives.scaled_penalties import quantile_slack as quantile_slack
from lengthwise.objectives.schedules import constant_cap as constant_cap
from lengthwise.objectives.schedules import cosine_cap as cosine_cap
from lengthwise.objectives.schedules import round_half_up as round_half_up
from lengthwise.objectives.schedules import stair_cap as stair_cap
from lengthwise.objectives.schedules import stair_cosine_cap as stair_cosine_cap

__all__ = [
    "adaptive_penalty",
    "adaptive_weight",
    "batch_normalised",
    "best_solved",
    "budget_answers",
    "budget_exact",
    "budget_max",
    "budget_relative",
    "budget_weights",
    "clipped_surrogate",
    "clipped_value",
    "constant_cap",
    "constrained_cost",
    "cosine_cap",
    "cosine_length",
    "decoupled_advantage",
    "difficulty_tier",
    "difficulty_truncation",
    "drawn_budgets",
    "drpo",
    "drpo_questions",
    "drpo_weights",
    "efficiency_bonus",
    "effort_reward",
    "egae",
    "entropy_exit",
    "even_budgets",
    "explained_variance",
    "filtered_likelihood",
    "filtered_normaliser",
    "gae",
    "gate",
    "gate_metrics",
    "gated_decay",
    "group_length_bonus",
    "group_normalised",
    "group_pairs",
    "guarded_product",
    "history_length",
    "instance_pairs",
    "kept_share",
    "kl_penalty",
    "leave_one_out",
    "length_adaptive_lambda",
    "length_weighted_baseline",
    "linear_length",
    "linear_price",
    "loss_normaliser",
    "max_share_penalty",
    "min_max_length",
    "mixed_groups",
    "mode_reward",
    "mode_switch",
    "normalised_length",
    "order_gap",
    "positive_lm",
    "preferred_group",
    "preferred_mode",
    "probe_groups",
    "quantile_slack",
    "reference_ratio",
    "relative_length",
    "returns_to_go",
    "reverse_kl",
    "reverse_kl_of_states",
    "round_half_up",
    "segment_credit",
    "selective_length_penalty",
    "separated_truncation",
    "shortest_correct",
    "soft_overlong",
    "stair_cap",
    "stair_cosine_cap",
    "step_bonus",
    "teacher_is_copied",
    "tier_targets",
    "trial_confidence",
    "truncation",
    "updated_history",
    "updated_multiplier",
    "updated_weight",
    "whitened",
    "window_mask",
]
