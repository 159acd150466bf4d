"""Repairing a fine-tuned model by taking weights out (Antidote): scores, masks, folders.

The function `repair.antidote.repair` is also ``lengthwise.repair.repair``.
"""

from lengthwise.repair.antidote import Selection as Selection
from lengthwise.repair.antidote import repair as repair
from lengthwise.repair.antidote import top_mask as top_mask
from lengthwise.repair.antidote import weight_scores as weight_scores
from lengthwise.repair.folder_repair import repair_folder as repair_folder
from lengthwise.repair.layer_activity import Activity as Activity
from lengthwise.repair.layer_activity import activation_scores as activation_scores
from lengthwise.repair.saved_mask import apply_mask as apply_mask

__all__ = [
    "Activity",
    "Selection",
    "activation_scores",
    "apply_mask",
    "repair",
    "repair_folder",
    "top_mask",
    "weight_scores",
]
