"""Deprecated: this room became `lengthwise.grading` and `lengthwise.statistics`. It goes with the next release."""

from lengthwise._moved import moved_names as _moved_names

__getattr__, __all__ = _moved_names(
    "lengthwise.evaluation",
    {
        "lengthwise.grading": [
            "IsolatedPool", "PromptContract", "SafeGrader", "Stopped", "Verdict", "answer_key", "grade", "load_grader",
            "preset", "resolve", "stated_answers",
        ],
        "lengthwise.statistics": [
            "Interval", "Record", "accuracy_at_budget", "accuracy_efficiency_score", "check_comparable", "compare",
            "frontier", "majority_at_k", "pass_at_k", "removable_share", "summarise",
        ],
        "lengthwise.generation.sampling": ["Sampling", "evaluate"],
        "lengthwise.grading.problems": ["prepare"],
        "lengthwise.reporting.run_report": ["build_report"],
    },
)  # fmt: skip
