"""Which of TRL's settings a method speaks in place of; such a setting is refused, never ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lengthwise.engine.method import Method
from lengthwise.engine.trainer import check_temperature
from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from trl import GRPOConfig

REPLACED = (
    "loss_type", "epsilon", "epsilon_high", "delta", "scale_rewards", "importance_sampling_level", "reward_weights",
    "multi_objective_aggregation", "mask_truncated_completions", "top_entropy_quantile", "entropy_coef",
    "use_adaptive_entropy", "off_policy_mask_threshold", "sync_ref_model",
)  # fmt: skip
"""Settings of GRPOConfig in whose place the method speaks."""
SAMPLING = ("top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs")
"""Settings that would make TRL sample by something else than temperature."""


def check_settings(args: GRPOConfig, method: Method, defaults: Mapping[str, object]) -> None:
    """See that `args`, a GRPOConfig, leaves to the method what the method says.

    Raises:
        ConfigError: a setting differs from its default that would be ignored or would change what the method says.
    """
    for name in (n for n in (*REPLACED, *SAMPLING) if n in defaults):
        value = getattr(args, name)
        if value != defaults[name]:
            why = (
                "training samples by temperature alone"
                if name in SAMPLING
                else f"method {method.name!r} says that itself; see its options"
            )
            raise ConfigError(f"args.{name} is {value!r}, but {why}; leave it at {defaults[name]!r}")
    check_temperature(method, args.temperature)
    if args.beta not in (0.0, method.kl_coef):
        raise ConfigError(
            f"args.beta is {args.beta}, but method {method.name!r} has kl_coef {method.kl_coef}; leave beta out and "
            "set the method's kl_coef"
        )
    if args.steps_per_generation % args.gradient_accumulation_steps:
        raise ConfigError(
            f"steps_per_generation is {args.steps_per_generation}, no multiple of gradient_accumulation_steps "
            f"{args.gradient_accumulation_steps}; an update must not span two batches"
        )
    if not method.takes_advantages and args.use_vllm and args.vllm_importance_sampling_correction:
        raise ConfigError(
            f"args.vllm_importance_sampling_correction is True, but the loss of method {method.name!r} takes no "
            "importance weights; set it to False"
        )
