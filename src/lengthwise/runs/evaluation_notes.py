"""What an evaluation says beside its numbers: notes, and a warning where thinking was expected and none came."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lengthwise.errors import LengthwiseWarning
from lengthwise.grading.prompt_contract import PromptContract

UNCLOSED_SHARE = 0.5


def notes_of(summary: Mapping[str, Any]) -> list[str]:
    """What an evaluation adds to the notes of a log."""
    done, spent, left_out = summary["intervention"], summary["spent_tokens"], summary["problems_left_out"]
    said = []
    if (reason := summary["context"]["contract"]["think_reason"]) is not None:
        said.append(f"thinking: {reason}")
    if (options := summary["context"].get("lambda")) is not None:
        said.append(" ".join(["Lambda attention", *(f"{name} {value}" for name, value in options.items())]))
    if done is not None:
        said.append("intervention: " + ", ".join(f"{name} {value}" for name, value in done.items()))
    if done is not None and "answer_tokens" in done:
        said.append(f"{summary['forced']} of {summary['responses']} responses had their thinking ended for them")
    if spent is not None:
        said.append(
            f"{spent['estimate']:,.1f} tokens are spent for a response on all that are written beside each other; "
            "the lengths are those of the first to finish"
        )
    if summary["context"].get("stop_repeats"):
        said.append(f"{summary['repeats']} of {summary['responses']} responses were cut for repeating themselves")
    if left_out["problems"]:
        said.append(f"{left_out['problems']} problems left out, no response could be graded: {left_out['first']}")
    return said


def warn_of_unclosed(log: Path, contract: PromptContract, summary: dict[str, Any]) -> None:
    """Say so where thinking is expected and none is there: every response of such a model is graded wrong."""
    if contract.think_close is None or (summary["unclosed_rate"] or 0.0) <= UNCLOSED_SHARE:
        return
    mark = json.dumps(contract.think_close)[1:-1]
    with log.open(encoding="utf-8") as file:
        if any(mark in line for line in file):
            return
    warnings.warn(
        f"{summary['unclosed_rate']:.0%} of the responses never close their thinking, so they count as wrong, and "
        f"{contract.think_close} stands in none: give --think no for a model that answers directly, or raise --cap "
        "for one that was cut in its thinking",
        LengthwiseWarning,
        stacklevel=2,
    )
