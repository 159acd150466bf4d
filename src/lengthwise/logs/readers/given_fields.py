"""Where the user says that a row's values stand, in place of where the format has them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from lengthwise.errors import ConfigError
from lengthwise.logs.readers.log_row import LogRow, Row
from lengthwise.logs.readers.response_ends import end_of
from lengthwise.logs.readers.row_values import (
    BLANK,
    asked_in,
    at,
    clean,
    count_of,
    label_of,
    sample_of,
    text_of,
    verdict_of,
)

NONE = "none"
"""In place of the path of the thinking: there is none."""


@dataclass(frozen=True)
class Fields:
    """Dotted paths in a log's row (``choices.0.message.content``), None where the format knows.

    ``reasoning``: or ``"none"``, where a log has a column of that name that is no thinking; ``answer`` likewise.
    ``verdict``: a path, or one of the log's own verdicts as its format names them (``exact_match,strict-match``).

    Raises:
        ConfigError: an empty path.
    """

    response: str | None = None
    answer: str | None = None
    reasoning: str | None = None
    num_tokens: str | None = None
    reasoning_tokens: str | None = None
    end: str | None = None
    problem: str | None = None
    problem_id: str | None = None
    sample: str | None = None
    category: str | None = None
    verdict: str | None = None

    def __post_init__(self) -> None:
        for field, path in self.named().items():
            if not path.strip():
                raise ConfigError(f"the path of {field} is {path!r}; name a column of the log")

    def named(self) -> dict[str, str]:
        """The paths that were given, by field."""
        return {field: path for field, path in vars(self).items() if path is not None}

    def applied(self, found: LogRow, row: Row) -> LogRow:
        """A response with what stands at the given paths of its row."""
        for field, path in self.named().items():
            if field != "response":
                found = _with(found, field, path, row)
        return found


def _with(found: LogRow, field: str, path: str, row: Row) -> LogRow:
    value = at(row, path)
    match field:
        case "answer":
            return replace(found, answer=None if path == NONE else value)
        case "reasoning":
            text = None if path == NONE else text_of(value, path)
            return replace(found, reasoning=text if text and text.strip() else None)
        case "num_tokens":
            return replace(found, num_tokens=count_of(value, path), shared_tokens=None)
        case "reasoning_tokens":
            return replace(found, reasoning_tokens=count_of(value, path))
        case "end":
            end, reason = end_of(value)
            return replace(found, end=end, finish_reason=reason)
        case "problem":
            return replace(found, problem=_problem(value))
        case "problem_id":
            return replace(found, problem_id=label_of(value, path))
        case "sample":
            return replace(found, sample=sample_of(value, path))
        case "category":
            return replace(found, category=None if value in BLANK else clean(str(value)))
        case _:
            verdict = found.verdicts.get(path, verdict_of(value))
            return replace(found, verdicts={} if verdict is None else {path: verdict})


def _problem(value: object) -> str | None:
    """The problem's text; whatever else tells problems apart, as JSON."""
    text = asked_in(value)
    return text if text is not None or value in BLANK else clean(json.dumps(value, sort_keys=True, default=str))


NO_FIELDS = Fields()
