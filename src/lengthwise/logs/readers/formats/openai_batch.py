"""Output of OpenAI's Batch API, and of vLLM's ``run_batch``: completions under the ``custom_id`` of their requests.

A response of the Responses API (``output`` in place of ``choices``) is read, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lengthwise.logs.readers.formats.openai_chat import of_completion
from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_format import row_format
from lengthwise.logs.readers.log_row import LogRow, Row, UnusableError
from lengthwise.logs.readers.response_ends import end_of
from lengthwise.logs.readers.row_values import at, count_of, label_of, list_at, mapping_at, message_text, text_of

GOOD = range(200, 300)
ERRORS = ("error.error.message", "error.message", "response.body.error.message", "response.body.message", "error")
"""Where a request's error may stand: vLLM has it twice nested, OpenAI in the body or beside it."""


def _fits(row: Row) -> bool:
    return row.keys() >= {"custom_id", "response"} and (at(row, "response.body") is not None or "error" in row)


def _read(row: Row, _: Fields) -> Iterator[LogRow]:
    body = mapping_at(row, "response.body")
    status = at(row, "response.status_code")
    error = next((one for path in ERRORS if (one := at(row, path)) is not None), None)
    if not body or (isinstance(status, int) and status not in GOOD) or (error and "choices" not in body):
        raise UnusableError("a request that failed", str(error or f"status {status}")[:80])
    named = label_of(row.get("custom_id"), "custom_id")
    if "choices" in body:
        yield from of_completion(row, body, named)
    elif list_at(body, "output"):
        yield _of_responses(body, named)
    else:
        raise UnusableError("a body without choices or output", f"it has {', '.join(map(str, body))[:80]}")


def _of_responses(body: Mapping[str, object], named: str | None) -> LogRow:
    """An answer of the Responses API: entries of thinking (a summary), and of messages."""
    texts, thoughts = [], []
    for entry in list_at(body, "output"):
        if at(entry, "type") == "message":
            texts.append(message_text(at(entry, "content"))[0])
        elif at(entry, "type") == "reasoning":
            shown = list_at(entry, "content") or list_at(entry, "summary")
            thoughts += [text_of(at(part, "text"), "summary") or "" for part in shown]
    end, reason = end_of(at(body, "incomplete_details.reason") or at(body, "status"))
    return LogRow(
        response="\n".join(texts),
        reasoning="\n".join(thoughts) or None,
        num_tokens=count_of(at(body, "usage.output_tokens"), "output_tokens"),
        reasoning_tokens=count_of(at(body, "usage.output_tokens_details.reasoning_tokens"), "reasoning_tokens"),
        end=end,
        finish_reason=reason,
        problem_id=named,
    )


FORMAT = row_format(
    "openai-batch", "OpenAI Batch output", "custom_id and response.body with choices", _fits, _read, holds_answers=False
)
