"""Liger's Triton kernels for a model's norms and MLPs, where the user asks for them and there is a GPU."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Protocol, cast

import torch

from lengthwise.errors import ConfigError
from lengthwise.optional_imports import importing

if TYPE_CHECKING:
    from collections.abc import Container

    from transformers import PreTrainedModel

LEAVE = {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}
"""What stays ours: positions, which our schemes change, and the head, which the scorer reads in chunks."""


class _Liger(Protocol):
    """The module `liger_kernel.transformers.monkey_patch`, as far as it is used here."""

    MODEL_TYPE_TO_APPLY_LIGER_FN: Container[str]

    def _apply_liger_kernel_to_instance(self, model: PreTrainedModel, **which: bool) -> None: ...


def check_liger(device: torch.device) -> None:
    """Refuse kernels that the device cannot run.

    Raises:
        ConfigError: no CUDA device.
    """
    if device.type != "cuda":
        raise ConfigError(f"liger is on, and its kernels run on a GPU, not on {device.type}; leave --liger out")


def put_liger(model: PreTrainedModel) -> None:
    """Replace the forward of this model's norms and MLPs by Liger's; models loaded later keep their own.

    Raises:
        ConfigError: an architecture that Liger does not know.
        MissingExtraError: liger-kernel is not installed.
    """
    with importing("--liger", "liger_kernel", "liger"):
        liger = cast(_Liger, importlib.import_module("liger_kernel.transformers.monkey_patch"))
    kind = model.config.model_type
    if kind not in liger.MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise ConfigError(f"liger is on, and it has no kernels for {kind!r} models; leave --liger out")
    # It replaces the classes in transformers' module too, which would change every model of the process.
    names = vars(sys.modules[type(model).__module__])
    before = dict(names)
    liger._apply_liger_kernel_to_instance(model, **LEAVE)
    names.update(before)
