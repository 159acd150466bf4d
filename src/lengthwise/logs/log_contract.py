"""How responses that exist already are read: the contract of a log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lengthwise.config.groups.prompts import LogAnswers
from lengthwise.grading.prompt_contract import PromptContract, preset
from lengthwise.grading.thinking_marks import THINK_CLOSE
from lengthwise.logs.token_breakdown import AUTO


def contract_of_log(options: LogAnswers) -> PromptContract:
    """The contract of the options: the marks of any kind tell, unless there is to be no thinking or none can be."""
    think, lab = options.think, options.preset == "lab"
    changes: dict[str, Any] = {"answers": options.several}
    if options.answer_pattern is not None:
        changes["answer_pattern"] = options.answer_pattern
    changes["think_marks"] = think != "no" and (not lab or think is not None)
    if think == "yes":
        changes["think_close"] = THINK_CLOSE
    elif think is not None:
        changes |= {"think_prefix": "", "think_close": None}
    return replace(AUTO, **changes) if options.preset == "auto" else preset(options.preset, **changes)
