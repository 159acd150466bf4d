"""An exported config, read and checked by verl's own classes. Needs verl."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.adapters.verl import Verdicts, method_of
from lengthwise.engine.rotary_switch import check_shared
from lengthwise.errors import ConfigError, LengthwiseError
from lengthwise.optional_imports import importing
from lengthwise.pretrained import read_config

if TYPE_CHECKING:
    from omegaconf import DictConfig

CHECKED = ("actor_rollout_ref.actor", "actor_rollout_ref.rollout", "algorithm.filter_groups")
"""Parts that verl makes dataclasses of when a run starts, besides what `validate_config` looks at."""


def compose(folder: Path) -> DictConfig:
    """The whole configuration as verl will see it: its defaults with ours on top."""
    with importing("a config of verl", "hydra-core", "verl"):
        from hydra import compose as hydra_compose
        from hydra import initialize_config_dir

    with initialize_config_dir(config_dir=str(folder.resolve()), version_base=None):
        return hydra_compose(config_name="config")


def check_config(folder: Path) -> DictConfig:
    """Compose and check; returns the composed configuration.

    Raises:
        ConfigError: a part that verl, or our own plug-in, refuses.
        UnsupportedModelError: rotary factors that would switch within a batch.
    """
    with importing("a config of verl", "verl", "verl"):
        from omegaconf import OmegaConf
        from verl.utils.config import omega_conf_to_dataclass, validate_config

    try:
        config = compose(folder)
    except LengthwiseError:
        raise
    except Exception as error:
        raise ConfigError(f"verl cannot read {folder / 'config.yaml'}: {error}") from error
    method_of(config.algorithm)
    _check_rotation(config)
    Verdicts(config, None)
    try:
        for part in CHECKED:
            omega_conf_to_dataclass(OmegaConf.select(config, part))
        with contextlib.redirect_stdout(io.StringIO()):
            use_reference = bool(config.actor_rollout_ref.actor.use_kl_loss)
            validate_config(config, use_reference_policy=use_reference, use_critic=False)
    except Exception as error:
        raise ConfigError(f"verl refuses {folder / 'config.yaml'}: {error}") from error
    return config


def _check_rotation(config: DictConfig) -> None:
    """See that no batch of verl's reads a local model beyond a switch of its rotary factors."""
    model, data = config.actor_rollout_ref.model, config.data
    if Path(str(model.path)).is_dir():
        found = read_config(str(model.path), trust_remote_code=bool(model.get("trust_remote_code")))
        check_shared(found, int(data.max_prompt_length) + int(data.max_response_length), "verl")
