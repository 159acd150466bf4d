"""Responses that are worth a look: the longest right ones, those that were cut, and those that were right, then lost.

Of a log of any size so many of each are kept, those with the most tokens, so memory is bounded.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from lengthwise.logs.rows import GradedRow
from lengthwise.logs.token_breakdown import Anatomy, Body

MOST_OF_A_KIND = 40
RIGHT, CUT, LOST = "right", "cut", "lost"
KINDS = (RIGHT, LOST, CUT)


@dataclass(frozen=True)
class Example:
    """A graded response with its text.

    ``right_end``: where the first right statement ends in ``text``, in characters; None where there is none.
    ``after``: tokens after it, None where they were not counted. ``gold``: the reference as the log has it.
    ``lost``: what became of a right answer that was lost; None otherwise.
    """

    problem_id: str
    sample: str | None
    correct: bool
    finished: bool
    num_tokens: int
    after: int | None
    gold: str
    extracted: str | None
    lost: str | None
    text: str
    right_end: int | None

    @property
    def kind(self) -> str | None:
        """Where it is shown; None: a wrong answer to its end is not."""
        if self.correct:
            return RIGHT
        return LOST if self.lost is not None else None if self.finished else CUT


def example_of(row: GradedRow, body: Body, found: Anatomy | None) -> Example:
    """The example that a graded row makes with the text that it was made of."""
    return Example(
        problem_id=row.problem_id,
        sample=None if row.sample is None else str(row.sample),
        correct=row.correct,
        finished=row.finished,
        num_tokens=row.num_tokens,
        after=row.tokens_after_right,
        gold=str(body.answer),
        extracted=row.extracted,
        lost=row.abandoned,
        text=body.text,
        right_end=None if found is None else found.right_end,
    )


@dataclass
class Examples:
    """The responses of each kind that have the most tokens."""

    most: int = MOST_OF_A_KIND
    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    _heaps: dict[str, list[tuple[int, int, Example]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, example: Example) -> None:
        """See a response; among equally long ones the first stays."""
        if (kind := example.kind) is None:
            return
        self.seen[kind] += 1
        # No two entries have one number, so examples are never compared.
        entry = (example.num_tokens, -self.seen[kind], example)
        if len(self._heaps[kind]) < self.most:
            heapq.heappush(self._heaps[kind], entry)
        elif entry > self._heaps[kind][0]:
            heapq.heapreplace(self._heaps[kind], entry)

    def of(self, kind: str) -> Sequence[Example]:
        """Those of a kind, the longest first."""
        return [example for _, _, example in sorted(self._heaps[kind], reverse=True)]
