"""Arithmetic on the weights of models with the same names and shapes: merging, scoring, repairing.

Merging needs no torch, so the names that do are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lengthwise.weights.folders import merge_folders as merge_folders
from lengthwise.weights.memory import dare_merge as dare_merge
from lengthwise.weights.memory import linear_merge as linear_merge
from lengthwise.weights.memory import slerp_merge as slerp_merge
from lengthwise.weights.memory import task_arithmetic as task_arithmetic
from lengthwise.weights.memory import ties_merge as ties_merge
from lengthwise.weights.memory import update_selective_merge as update_selective_merge
from lengthwise.weights.methods import build_merge as build_merge
from lengthwise.weights.preflight import MergeJob as MergeJob
from lengthwise.weights.preflight import preflight as preflight

_WITH_TORCH = {
    "Activity": "activity",
    "Calibration": "calibration",
    "MaskJob": "repair_job",
    "RepairJob": "repair_job",
    "Selection": "antidote",
    "activation_scores": "activity",
    "apply_mask": "masked",
    "repair": "antidote",
    "repair_folder": "repairing",
    "top_mask": "antidote",
    "weight_scores": "antidote",
}

if TYPE_CHECKING:
    from lengthwise.weights.activity import Activity as Activity
    from lengthwise.weights.activity import activation_scores as activation_scores
    from lengthwise.weights.antidote import Selection as Selection
    from lengthwise.weights.antidote import repair as repair
    from lengthwise.weights.antidote import top_mask as top_mask
    from lengthwise.weights.antidote import weight_scores as weight_scores
    from lengthwise.weights.calibration import Calibration as Calibration
    from lengthwise.weights.masked import apply_mask as apply_mask
    from lengthwise.weights.repair_job import MaskJob as MaskJob
    from lengthwise.weights.repair_job import RepairJob as RepairJob
    from lengthwise.weights.repairing import repair_folder as repair_folder

__all__ = [
    "MergeJob",
    "build_merge",
    "dare_merge",
    "linear_merge",
    "merge_folders",
    "preflight",
    "slerp_merge",
    "task_arithmetic",
    "ties_merge",
    "update_selective_merge",
    *_WITH_TORCH,
]


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        return getattr(importlib.import_module(f"lengthwise.weights.{_WITH_TORCH[name]}"), name)
    raise AttributeError(f"module 'lengthwise.weights' has no attribute {name!r}; it has {', '.join(__all__)}")
