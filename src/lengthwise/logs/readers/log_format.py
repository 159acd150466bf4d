"""What a reader is: how it tells its format from the first rows, and how it makes responses of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lengthwise.data import Defect
from lengthwise.logs.readers.given_fields import NO_FIELDS, Fields
from lengthwise.logs.readers.log_row import Items, LogRow, Place, Row, TwoReadingsError, UnusableError
from lengthwise.logs.readers.openings import Form, Opening

ROW_FORMS = frozenset({Form.LINES, Form.LIST, Form.OBJECT, Form.PARQUET})
"""Forms that hold rows, whatever wrote them."""


@dataclass(frozen=True)
class Reading:
    """A log that is ready to be read. ``says``: what is worth knowing of it at once, as in ``2 filters``."""

    says: tuple[str, ...]
    rows: Callable[[], Items]


@dataclass(frozen=True)
class LogFormat:
    """One kind of log.

    ``name``: as the user forces it; ``title``: as messages call it; ``needs``: what a row has. ``fits``: whether a
    file is one. ``read``: gets ready to read files of it. ``general``: fits many files, and stands back where another
    format fits too. ``holds_answers``: False for what servers write, which know no right answers.
    """

    name: str
    title: str
    needs: str
    fits: Callable[[Opening], bool]
    read: Callable[[Sequence[Opening], Fields], Reading]
    general: bool = False
    holds_answers: bool = True


ReadRow = Callable[[Row, Fields], Iterator[LogRow]]
"""Makes the responses of one row; raises `UnusableError` where there is none."""


def row_format(
    name: str, title: str, needs: str, fits_row: Callable[[Row], bool], read_row: ReadRow,
    *, forms: frozenset[Form] = ROW_FORMS, general: bool = False, holds_answers: bool = True,
) -> LogFormat:  # fmt: skip
    """A format whose rows are read one by one."""

    def fits(opening: Opening) -> bool:
        return opening.form in forms and fits_any(opening, fits_row)

    def read(openings: Sequence[Opening], fields: Fields) -> Reading:
        return Reading(samples_said(openings, read_row), lambda: read_rows(openings, fields, read_row))

    return LogFormat(name, title, needs, fits, read, general, holds_answers)


def fits_any(opening: Opening, fits_row: Callable[[Row], bool]) -> bool:
    """Whether one of the first rows is of a format; one that cannot be used may be, but does not tell."""
    for row in opening.first:
        with suppress(UnusableError, RecursionError):
            if fits_row(row):
                return True
    return False


def read_rows(openings: Sequence[Opening], fields: Fields, read_row: ReadRow) -> Items:
    """The responses of all files, row by row, with what the user's own paths say of them."""
    for opening in openings:
        for number, row in opening.rows():
            place = Place(opening.name, number)
            if isinstance(row, Defect):
                yield place, row
            else:
                try:
                    yield from ((place, item) for item in responses(row, fields, read_row))
                except TwoReadingsError as error:
                    raise TwoReadingsError(f"{place}: {error}") from error


def responses(row: Row, fields: Fields, read_row: ReadRow) -> Iterator[LogRow | Defect]:
    """The responses of one row, or why it has none."""
    try:
        yield from [fields.applied(found, row) for found in read_row(row, fields)]
    except UnusableError as error:
        yield Defect(*error.args)
    except RecursionError:  # JSON inside of a text
        yield Defect("lists or objects too deep in each other")


def samples_said(openings: Sequence[Opening], read_row: ReadRow) -> tuple[str, ...]:
    """How many samples the first rows have, where it is not one each."""
    counts: set[int] = set()
    for row in (row for opening in openings for row in opening.first):
        found = [item for item in responses(row, NO_FIELDS, read_row) if isinstance(item, LogRow)]
        counts |= {len(found)} - {0}
    most = max(counts, default=1)
    return () if most == 1 else (f"{most if len(counts) == 1 else f'up to {most}'} samples a row",)
