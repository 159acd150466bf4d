"""Batch output: by hand as OpenAI documents it, and what vLLM's run_batch really wrote."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.logs.readers import End, recognise


def answered(name: str, body: Any, status: int = 200, error: Any = None) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": f"batch_req_{name}", "custom_id": name, "response": response, "error": error}


GOOD = {
    "choices": [{"index": 0, "message": {"content": "7"}, "finish_reason": "stop"}],
    "usage": {"completion_tokens": 3},
}


def test_the_custom_id_names_the_problem(read, write):
    log = write([answered("apples", GOOD)])
    assert str(recognise(log)) == "OpenAI Batch output"
    (row,) = read(log)
    assert (row.problem_id, row.response, row.num_tokens, row.notes) == ("apples", "7", 3, ())


def test_what_vllm_wrote(files):
    log = recognise(files / "vllm-0.32.0" / "batch.jsonl")
    assert str(log) == "OpenAI Batch output, up to 2 samples a row"
    first, one, two, cut, failed = [item for _, item in log.rows()]
    assert (first.problem_id, first.num_tokens, first.end) == ("apples", 20, End.FINISHED)
    assert [(row.problem_id, row.sample, row.num_tokens, row.shared_tokens) for row in (one, two)] == [
        ("pens", 0, None, 80), ("pens", 1, None, 80),
    ]  # fmt: skip
    assert (cut.response, cut.num_tokens, cut.end) == ("1. 1\n", 5, End.CUT)
    assert failed.reason == "a request that failed" and failed.detail.startswith("max_tokens=100000 cannot be greater")


def test_failed_rows_are_left_out_each_with_its_reason(write):
    rows = [
        answered("good", GOOD),
        answered("b", {"error": {"message": "too long"}}, 400),
        {"custom_id": "c", "response": None, "error": {"code": "batch_expired", "message": "expired"}},
        answered("d", None, 500),
    ]
    items = [item for _, item in recognise(write(rows)).rows()]
    assert items[1:] == [Defect("a request that failed", reason) for reason in ("too long", "expired", "status 500")]


def test_a_batch_that_failed_whole_says_so(write):
    with pytest.raises(
        InputError, match=r"OpenAI Batch output, but no row has a resp.*: a request that failed \(expired\)"
    ):
        recognise(write([{"custom_id": "c", "response": None, "error": {"message": "expired"}}] * 3))


def test_answers_of_the_responses_api(read, write):
    body = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "3 and 4"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "It is"}]},
        ],
        "usage": {"output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 12}},
    }
    (row,) = read(write([answered("a", body)]))
    assert (row.response, row.reasoning, row.num_tokens, row.reasoning_tokens) == ("It is", "3 and 4", 20, 12)
    assert (row.end, row.finish_reason) == (End.CUT, "max_output_tokens")
