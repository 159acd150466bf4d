"""Deprecated: this room became `lengthwise.merging` and `lengthwise.repair`. It goes with the next release."""

from lengthwise._moved import moved_names as _moved_names

__getattr__, __all__ = _moved_names(
    "lengthwise.weights",
    {
        "lengthwise.merging": [
            "build_merge", "dare_merge", "linear_merge", "merge_folders", "preflight", "slerp_merge",
            "task_arithmetic", "ties_merge", "update_selective_merge",
        ],
        "lengthwise.repair": [
            "Activity", "Selection", "activation_scores", "apply_mask", "repair", "repair_folder", "top_mask",
            "weight_scores",
        ],
    },
)  # fmt: skip
