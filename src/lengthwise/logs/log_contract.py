"""How responses that exist already are read: the contract of a log."""

from __future__ import annotations

from dataclasses import replace

from lengthwise.config.groups.prompts import LogAnswers
from lengthwise.grading.prompt_contract import PromptContract, preset
from lengthwise.grading.thinking_marks import THINK_CLOSE
from lengthwise.logs.token_breakdown import AUTO


def contract_of_log(options: LogAnswers) -> PromptContract:
    """The contract of the options: the marks of any kind tell, unless there is to be no thinking or none can be."""
    think, lab = options.think, options.preset == "lab"
    marks = think != "no" and (not lab or think is not None)
    contract = AUTO if options.preset == "auto" else preset(options.preset)
    contract = replace(contract, answers=options.several, think_marks=marks)
    if options.answer_pattern is not None:
        contract = replace(contract, answer_pattern=options.answer_pattern)
    if think == "yes":
        return replace(contract, think_close=THINK_CLOSE)
    return contract if think is None else replace(contract, think_prefix="", think_close=None)
