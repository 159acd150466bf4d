"""What every log has in common: one response with all that its log says of it, whatever the log's format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.logs.readers.response_ends import End

Row = Mapping[str, object]
"""One row as it stands in a file."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: the file as the user named it, and the row's number in it, from 1."""

    file: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}, row {self.number}"


@dataclass(frozen=True, slots=True)
class LogRow:
    """One response of a log. None: the log does not say.

    ``answer``: the right one, as it stands there; ``any_of``: it is a list of which one is enough. ``reasoning``:
    thinking that the log gives apart from ``response``. ``num_tokens``: of the response with its thinking;
    ``shared_tokens``: of all samples of the log's row together, where it has their sum alone. ``finish_reason``: in
    the log's words, `end` in ours. ``problem_id``: equal for responses to one problem; None: ``problem``, its text,
    tells. ``verdicts``: the log's own, by name, 1 for right. ``notes``: how the row was read where it could have been
    read otherwise, in words that are the same for alike rows; they do not count when rows are compared.
    """

    response: str
    answer: object = None
    any_of: bool = False
    reasoning: str | None = None
    num_tokens: int | None = None
    reasoning_tokens: int | None = None
    shared_tokens: int | None = None
    end: End = End.UNKNOWN
    finish_reason: str | None = None
    problem_id: str | None = None
    problem: str | None = None
    sample: int | str | None = None
    category: str | None = None
    verdicts: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def finished(self) -> bool | None:
        """Whether the response ended by itself; None where that is not known."""
        return self.end.finished

    @property
    def answer_in_thinking(self) -> bool:
        """Whether a response that ended by itself stands in the thinking's field alone."""
        return self.finished is True and bool(self.reasoning) and not self.response.strip()


Item = tuple[Place, LogRow | Defect]
"""A response, or why there is none, with its place."""
Items = Iterator[Item]


class UnusableError(Exception):
    """Reason and detail of the `Defect` that a row is."""


class TwoReadingsError(InputError):
    """A row that could be read in two ways, neither of which is the right one without being told."""
