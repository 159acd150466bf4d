"""Every name of TRL, transformers and verl that is not a promise of theirs and that the adapters touch, in one place.

A release that renames one is found here at the start of a run, before anything is generated, and by the tests.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping
from importlib import metadata

from lengthwise.errors import ConfigError, LengthwiseWarning, MissingExtraError
from lengthwise.installation_check import tested_range, was_tested
from lengthwise.optional_imports import importing

TRL_METHODS: dict[str, tuple[str, ...]] = {
    "_generate_and_score_completions": ("inputs",),
    "_generate_single_turn": ("prompt_ids",),
    "_calculate_rewards": ("inputs", "prompts", "completions", "completion_ids_list"),
    "_prepare_inputs": ("generation_batch",),
    "_compute_loss": ("model", "inputs"),
    "_get_per_token_logps_and_entropies": (
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
    ),
    "_save_checkpoint": ("model", "trial"),
    "_load_optimizer_and_scheduler": ("checkpoint",),
    "_get_output_dir": ("trial",),
}
"""Methods of TRL's GRPOTrainer that are called or replaced, with the parameters that must be there."""

TRL_ATTRIBUTES = (
    "_step",
    "_buffered_inputs",
    "_metrics",
    "aux_loss_enabled",
    "router_aux_loss_coef",
    "eos_token_ids",
    "max_completion_length",
    "num_generations",
    "num_generations_eval",
    "num_iterations",
    "use_vllm",
)
"""Attributes of a GRPOTrainer that is made; with vLLM also `vllm_generation`, else `generation_config` and
`generation_kwargs`."""

TRL_ROWS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
TRL_OPTIONAL_ROWS = {
    "tool_mask": "tool_mask",
    "old": "old_per_token_logps",
    "reference": "ref_per_token_logps",
    "importance": "importance_sampling_ratio",
    "sampled": "sampling_per_token_logps",
}
"""Keys of what `_generate_and_score_completions` returns: always there, and there for some settings."""

VERL_NAMES: dict[str, tuple[str, ...]] = {
    "verl.trainer.ppo.core_algos": (
        "register_adv_est",
        "get_adv_estimator_fn",
        "register_policy_loss",
        "get_policy_loss_fn",
    ),
    "verl.experimental.reward_loop.reward_manager": ("register", "get_reward_manager_cls"),
    "verl.experimental.reward_loop.reward_manager.base": ("RewardManagerBase",),
}
"""Module of verl -> what is taken from it."""


def installed(package: str) -> str:
    """The installed version of an engine; outside the tested range it warns.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            f'{package} is not installed; install it with: pip install "lengthwise[{package}]"'
        ) from error
    if not was_tested(package, version):
        warnings.warn(
            f"{package} is version {version}; the adapter was tested with {tested_range(package)}", LengthwiseWarning,
            stacklevel=3,
        )  # fmt: skip
    return version


def check_methods(package: str, owner: type, wanted: Mapping[str, tuple[str, ...]]) -> None:
    """See that a class still has the methods that an adapter calls or replaces, with their parameters.

    Raises:
        ConfigError: one is gone or has lost a parameter.
    """
    for name, parameters in wanted.items():
        method = getattr(owner, name, None)
        if method is None:
            raise _changed(package, f"{owner.__name__}.{name} is gone")
        has = inspect.signature(method).parameters
        for parameter in parameters:
            if parameter not in has:
                raise _changed(package, f"{owner.__name__}.{name} has no parameter {parameter!r} any more")


def check_attributes(package: str, owner: object, wanted: tuple[str, ...]) -> None:
    """See that an object still has the attributes that an adapter reads.

    Raises:
        ConfigError: one is gone.
    """
    for name in wanted:
        if not hasattr(owner, name):
            raise _changed(package, f"{type(owner).__name__}.{name} is gone")


def check_modules(package: str, wanted: Mapping[str, tuple[str, ...]]) -> None:
    """See that modules still have the names that an adapter takes from them.

    Raises:
        ConfigError: one is gone.
    """
    for module, names in wanted.items():
        try:
            with importing(f"the {package} adapter", package, package):
                found = importlib.import_module(module)
        except MissingExtraError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and f"{module}.".startswith(f"{cause.name}."):
                raise _changed(package, f"module {module} is gone") from error
            raise
        for name in names:
            if not hasattr(found, name):
                raise _changed(package, f"{module}.{name} is gone")


def _changed(package: str, what: str) -> ConfigError:
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    return ConfigError(
        f"{package} {version} has changed: {what}. The adapter was tested with {tested_range(package)}; install that: "
        f'pip install "{tested_range(package)}"'
    )
