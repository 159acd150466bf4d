"""Grade a log as `lengthwise grade` does, its settings given by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lengthwise.config.commands import GradeSettings
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.grading.worker_pool import Known
from lengthwise.logs.log_grading import grade_log


class InThisProcess:
    """In place of a pool of worker processes: faster for a few rows, and what it calls can be replaced."""

    def __init__(self, make: Any, **_: Any) -> None:
        apply = make()
        self.map = functools.partial(
            map, lambda payload: payload.result if isinstance(payload, Known) else apply(payload)
        )

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None: ...


def grade_file(
    log: Path,
    *,
    contract: PromptContract | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    listener: Any = None,
    **settings: Any,
) -> dict[str, Any]:
    """The summary of a log; one worker unless more are asked for."""
    made = GradeSettings.from_dict({"log": str(log), "workers": 1, **settings})
    heard = None if on_row is None else lambda row: on_row(row.to_dict())
    return grade_log(made, contract=contract, on_row=heard, listener=listener).to_dict()
