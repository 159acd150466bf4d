"""Grade a log as `lengthwise grade` does, its settings given by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lengthwise.config.commands import GradeSettings
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.logs.log_grading import grade_log


def grade_file(
    log: Path,
    *,
    contract: PromptContract | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    listener: Any = None,
    **settings: Any,
) -> dict[str, Any]:
    """The summary of a log; one worker unless more are asked for."""
    made = GradeSettings.from_dict({"log": log, "workers": 1, **settings})
    return grade_log(made, contract=contract, on_row=on_row, listener=listener)
