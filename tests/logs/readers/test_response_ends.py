"""Why a response ended, in the words of servers and tools."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.logs.readers.response_ends import End, end_of
from lengthwise.logs.readers.row_values import verdict_of

IN_USE = {
    End.FINISHED: "stop eos eos_token stop_sequence end_turn completed COMPLETE STOP",
    End.TOOL: "tool_calls tool-calls tool_use function_call pause_turn",
    End.CUT: "length max_tokens max_length model_length max_output_tokens incomplete "
    "model_context_window_exceeded MAX_TOKENS",
    End.REFUSED: "content_filter content-filter safety refusal RECITATION",
    End.FAILED: "abort cancelled error insufficient_system_resource",
    End.UNKNOWN: "unknown null because",
}
FINISHED = {
    End.FINISHED: True,
    End.TOOL: True,
    End.CUT: False,
    End.REFUSED: False,
    End.FAILED: False,
    End.UNKNOWN: None,
}


@pytest.mark.parametrize(("end", "word"), [(end, word) for end, words in IN_USE.items() for word in words.split()])
def test_every_word_in_use(end: End, word: str) -> None:
    assert end_of(word) == (end, word)
    assert end_of({"type": word}) == (end, word)  # SGLang
    assert end.finished is FINISHED[end]


@pytest.mark.parametrize("value", [True, 1, 1.0, "true", "True"])
def test_finished_true_and_what_is_written_for_it(value: Any) -> None:
    assert end_of(value) == (End.FINISHED, None)


@pytest.mark.parametrize("value", [None, "", " ", 2, 7.5, [], {}, float("nan")])
def test_anything_else_is_unknown(value: Any) -> None:
    assert end_of(value) == (End.UNKNOWN, None)


def test_false_is_cut() -> None:
    assert [end_of(value)[0] for value in (False, 0, "false")] == [End.CUT] * 3


VERDICTS = [("C", 1), ("I", 0), ("P", 0.5), (True, 1), ("false", 0), (0.25, 0.25), ("0.5", 0.5), ("well", None),
            ([], None), (float("inf"), None), (10**400, None), (None, None)]  # fmt: skip


@pytest.mark.parametrize(("value", "verdict"), VERDICTS)
def test_verdicts_of_logs(value: Any, verdict: float | None) -> None:
    assert verdict_of(value) == verdict
