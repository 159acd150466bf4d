"""SGLang's own answers, as its /generate gives them."""

from __future__ import annotations

from lengthwise.logs.readers import End, recognise


def test_text_tokens_and_a_reason_that_is_an_object(read, write):
    def meta(kind: str) -> dict[str, object]:
        return {"id": kind, "finish_reason": {"type": kind, "matched": 2}, "prompt_tokens": 5, "completion_tokens": 11}

    log = write(
        [
            {"text": "7", "answer": 7, "question": "3+4?", "meta_info": meta("stop")},
            {"text": "a", "meta_info": meta("length")},
        ]
    )
    assert str(recognise(log)) == "SGLang's own answers"
    first, second = read(log)
    assert (first.response, first.num_tokens, first.end, first.problem, first.answer) == (
        "7",
        11,
        End.FINISHED,
        "3+4?",
        7,
    )
    assert (second.end, second.problem_id) == (End.CUT, "length")
