"""Chat completions as servers give them, one a line."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.logs.readers import End, Fields, recognise


def completion(*choices: dict[str, Any], tokens: int | None = 9, **more: Any) -> dict[str, Any]:
    usage = None if tokens is None else {"prompt_tokens": 4, "completion_tokens": tokens}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": list(choices), "usage": usage} | more


def choice(content: Any = "It is 7", reason: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": content} | message, "finish_reason": reason}


def test_a_completion_by_itself(read, write):
    log = write(
        [completion(choice(), usage={"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 5}})]
    )
    assert str(recognise(log)) == "OpenAI chat completions"
    (row,) = read(log)
    assert (row.response, row.num_tokens, row.reasoning_tokens, row.end) == ("It is 7", 9, 5, End.FINISHED)
    assert (row.answer, row.problem, row.problem_id) == (None, None, "chatcmpl-1")
    assert row.notes == ("the log has no prompts: each request counts as a problem of its own",)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thinking_beside_is_read_under_both_names(read, write, name):
    assert read(write([completion(choice("7", **{name: "3 and 4"}))]))[0].reasoning == "3 and 4"


def test_both_names_saying_the_same_are_one_thinking_and_two_kinds_are_refused(read, write):
    same = choice("7", reasoning="3 and 4", reasoning_content="3 and\n4")
    assert read(write([completion(same)]))[0].reasoning == "3 and 4"
    with pytest.raises(InputError, match="chat completions.*two kinds of thinking.*--reasoning-column"):
        recognise(write([completion(choice("7", reasoning="a", reasoning_content="b"))]))


def test_a_count_of_none_beside_thinking_is_no_count(read, write):
    usage = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 0}}  # as vLLM 0.32 has it
    rows = [completion(choice("7", **more), usage=usage) for more in ({"reasoning": "3 and 4"}, {})]
    assert [row.reasoning_tokens for row in read(write(rows))] == [None, 0]


def test_several_choices_are_samples_and_their_usage_is_the_sum(read, write):
    log = write([completion(choice("It is 7"), choice("8", "length"), tokens=300, custom="x")])
    assert str(recognise(log)) == "OpenAI chat completions, 2 samples a row"
    rows = read(log)
    assert [(row.sample, row.num_tokens, row.shared_tokens, row.end) for row in rows] == [
        (0, None, 300, End.FINISHED), (1, None, 300, End.CUT),
    ]  # fmt: skip
    assert all("is their sum" in row.notes[0] for row in rows)


def test_a_row_that_holds_request_and_response_and_what_is_known(read, write):
    asked = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "3+4?"}]},
    ]
    rows = [
        {"problem_id": 3, "answer": "7", "category": "sums", "sample": 1, "request": {"messages": asked},
         "response": completion(choice())},
        {"messages": asked, "completion": completion(choice(), id="chatcmpl-2")},
    ]  # fmt: skip
    first, second = read(write(rows))
    assert (first.problem_id, first.problem, first.answer, first.sample) == ("3", "3+4?", "7", 1)
    assert (second.problem_id, second.problem, second.notes) == (None, "3+4?", ())  # the problem tells, not the request


def test_plain_completions_parts_and_null_contents(read, write):
    parts = [{"type": "thinking", "thinking": "3 and 4"}, {"type": "text", "text": "7"}]
    rows = read(write([
        completion({"index": 0, "text": " 7", "finish_reason": "stop"}),
        completion(choice(parts), id="b"),
        completion(choice(None, "tool_calls", tool_calls=[{}]), id="c"),
        completion(choice(None, "stop", reasoning="it is 7"), id="d"),
    ]))  # fmt: skip
    assert [(row.response, row.reasoning) for row in rows] == [
        (" 7", None),
        ("7", "3 and 4"),
        ("", None),
        ("", "it is 7"),
    ]
    assert (rows[2].end, rows[2].finished) == (End.TOOL, True)
    assert [row.answer_in_thinking for row in rows] == [False, False, False, True]


def test_no_usage_and_odd_reasons_lose_no_row(read, write):
    rows = read(
        write([completion(choice("7", reason), tokens=None, id=str(n)) for n, reason in enumerate(("because", None))])
    )
    assert [(row.num_tokens, row.end, row.finish_reason) for row in rows] == [
        (None, End.UNKNOWN, "because"), (None, End.UNKNOWN, None),
    ]  # fmt: skip


def test_a_failed_request_is_left_out(write):
    log = recognise(write([completion(choice()), {"response": None, "error": {"message": "overloaded"}}]))
    assert [item for _, item in log.rows()][1] == Defect("a request that failed", "overloaded")


def test_one_completion_over_many_lines(read, tmp_path):
    import json

    path = tmp_path / "one.json"
    path.write_text(json.dumps(completion(choice()), indent=2))
    assert [row.response for row in read(path)] == ["It is 7"]


def test_a_path_of_ones_own_reads_the_same_rows_as_flat_ones(read, write):
    log = write([completion(choice()) | {"answer": "7"}])
    fields = Fields(
        response="choices.0.message.content", num_tokens="usage.completion_tokens", end="choices.0.finish_reason"
    )
    (row,) = read(log, fields=fields)
    assert (row.response, row.num_tokens, row.end, row.answer) == ("It is 7", 9, End.FINISHED, "7")
    assert str(recognise(log, fields=fields)) == "flat rows, the response in choices.0.message.content"
