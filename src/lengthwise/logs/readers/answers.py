"""Right answers from a second file, for logs that have none of their own: joined by the problem's name or its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.logs.readers.given_fields import NO_FIELDS, Fields
from lengthwise.logs.readers.joined_rows import JoinedRows
from lengthwise.logs.readers.log_row import LogRow, Row, UnusableError
from lengthwise.logs.readers.names import ANSWER, CATEGORY, ID, PROBLEM, ROW_ID, first_of
from lengthwise.logs.readers.openings import Opening, open_log
from lengthwise.logs.readers.row_values import BLANK, asked_in, at, label_of, names_of
from lengthwise.logs.readers.sources import find_sources

OF_NAME, OF_TEXT = "problem_id", "problem"


class Answers:
    """Right answers by the names and the texts of their problems, kept on the disk.

    ``source``: JSON lines, a JSON list, Parquet or CSV, each row with an answer and a problem's name (``problem_id``,
    ``custom_id``, ``id``, ``index`` and the like) or text. ``fields``: where they stand under other names.

    Raises:
        InputError: no row has an answer with a name or a text, or two rows have two answers to one problem.
    """

    def __init__(self, source: str | Path | Iterable[str | Path], fields: Fields = NO_FIELDS) -> None:
        self._kept = JoinedRows()
        self.rows = 0
        openings = [open_log(one) for one in find_sources(source)]
        for opening in openings:
            for number, row in opening.rows():
                if not isinstance(row, Defect):
                    self._keep(opening, number, row, fields)
        if not self.rows:
            row = next(iter(openings[0].first), {})
            raise InputError(
                f"{openings[0].name} has no right answers by problem: a row needs an answer, and problem_id or "
                f"problem; its first row has {names_of(row)}"
            )

    def _keep(self, opening: Opening, number: int, row: Row, fields: Fields) -> None:
        gold = _value(row, fields.answer, ANSWER)
        if gold in BLANK:
            return
        known = {"answer": gold, "category": _value(row, fields.category, CATEGORY)}
        name, text = _label(row, fields), asked_in(_value(row, fields.problem, PROBLEM))
        for kind, key in ((OF_NAME, name), (OF_TEXT, None if text is None else _words(text))):
            if key is not None and not self._kept.add(key, kind, known):
                self._check_same(opening, number, self._kept.of(key)[kind], gold, key)
        self.rows += name is not None or text is not None

    def _check_same(self, opening: Opening, number: int, before: object, gold: object, key: str) -> None:
        if at(before, "answer") != gold:
            raise InputError(
                f"{opening.name}, row {number}: a second answer to {key[:60]!r}: {str(gold)[:40]!r}, and before "
                f"{str(at(before, 'answer'))[:40]!r}; keep one of them"
            )

    def joined(self, found: LogRow) -> LogRow:
        """A response with the right answer of its problem, which goes before the log's own."""
        known = self._of(found)
        if not known:
            return found
        category = at(known, "category")
        return replace(
            found,
            answer=at(known, "answer"),
            any_of=False,
            category=found.category if found.category is not None or category is None else str(category),
        )

    def _of(self, found: LogRow) -> Mapping[str, object]:
        for kind, key in ((OF_NAME, found.problem_id), (OF_TEXT, found.problem)):
            known = {} if key is None else self._kept.of(key if kind == OF_NAME else _words(key))
            if isinstance(one := known.get(kind), Mapping):
                return one
        return {}


def _value(row: Row, path: str | None, names: tuple[str, ...]) -> object:
    name = path or first_of(row, names)
    return None if name is None else at(row, name)


def _label(row: Row, fields: Fields) -> str | None:
    value = _value(row, fields.problem_id, (*ID, *ROW_ID))
    try:
        return label_of(value, "problem_id")
    except UnusableError:
        return None


def _words(text: str) -> str:
    return " ".join(text.split())
