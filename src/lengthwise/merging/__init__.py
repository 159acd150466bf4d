"""Merging the weights of models with the same names and shapes, in memory or from shard to shard."""

from lengthwise.merging.folder_merge import merge_folders as merge_folders
from lengthwise.merging.in_memory import dare_merge as dare_merge
from lengthwise.merging.in_memory import linear_merge as linear_merge
from lengthwise.merging.in_memory import slerp_merge as slerp_merge
from lengthwise.merging.in_memory import task_arithmetic as task_arithmetic
from lengthwise.merging.in_memory import ties_merge as ties_merge
from lengthwise.merging.in_memory import update_selective_merge as update_selective_merge
from lengthwise.merging.merge_methods import build_merge as build_merge
from lengthwise.merging.merge_plan import preflight as preflight

__all__ = [
    "build_merge",
    "dare_merge",
    "linear_merge",
    "merge_folders",
    "preflight",
    "slerp_merge",
    "task_arithmetic",
    "ties_merge",
    "update_selective_merge",
]
