"""What an evaluation says beside its numbers: notes, and a warning where thinking was expected and none came."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from lengthwise.errors import LengthwiseWarning
from lengthwise.generation.measurement import Drawn
from lengthwise.grading.prompt_contract import PromptContract

UNCLOSED_SHARE = 0.5


def notes_of(
    context: Mapping[str, object], drawn: Drawn, responses: int, problems_left_out: Sequence[str]
) -> list[str]:
    """What an evaluation adds to the notes of a log of so many responses."""
    done, contract, window = context["intervention"], context["contract"], context.get("lambda")
    said = list[str]()
    if isinstance(contract, Mapping) and contract["think_reason"] is not None:
        said.append(f"thinking: {contract['think_reason']}")
    if isinstance(window, Mapping):
        said.append(" ".join(["Lambda attention", *(f"{name} {value}" for name, value in window.items())]))
    if isinstance(done, Mapping):
        said.append("intervention: " + ", ".join(f"{name} {value}" for name, value in done.items()))
        if "answer_tokens" in done:
            said.append(f"{drawn.forced} of {responses} responses had their thinking ended for them")
        if drawn.spent_tokens is not None and drawn.spent_tokens.estimate is not None:
            said.append(_spent(drawn.spent_tokens.estimate, tried=done.get("early_stop") is not None))
    if (extra := context.get("extra_body")) is not None:
        said.append(f"every request had {json.dumps(extra)}")
    if context.get("stop_repeats"):
        said.append(f"{drawn.repeats} of {responses} responses were cut for repeating themselves")
    if problems_left_out:
        said.append(f"{len(problems_left_out)} problems left out, no response could be graded: {problems_left_out[0]}")
    return said


def _spent(tokens: float, *, tried: bool) -> str:
    if tried:
        return (
            f"{tokens:,.1f} tokens are spent for a response with the trials of its answer, which are not in its length"
        )
    return (
        f"{tokens:,.1f} tokens are spent for a response on all that are written beside each other; the lengths are "
        "those of the first to finish"
    )


def warn_of_unclosed(log: Path, contract: PromptContract, unclosed_rate: float) -> None:
    """Say so where thinking is expected and none is there: every response of such a model is graded wrong."""
    if contract.think_close is None or unclosed_rate <= UNCLOSED_SHARE:
        return
    mark = json.dumps(contract.think_close)[1:-1]
    with log.open(encoding="utf-8") as file:
        if any(mark in line for line in file):
            return
    warnings.warn(
        f"{unclosed_rate:.0%} of the responses never close their thinking, so they count as wrong, and "
        f"{contract.think_close} stands in none: give --think no for a model that answers directly, or raise --cap "
        "for one that was cut in its thinking",
        LengthwiseWarning,
        stacklevel=2,
    )
