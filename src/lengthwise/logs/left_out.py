"""Rows of a log that were not used: by reason, and what to say where none is left."""

from __future__ import annotations

from dataclasses import dataclass, field

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.logs.log_numbers import LeftOutReason, LeftOutRows
from lengthwise.logs.readers import Log, LogRow, Place
from lengthwise.logs.readers.row_values import names_of
from lengthwise.logs.rows import NO_ANSWER, NO_COUNT, LogReading, field_of

HOPELESS = 100
"""Rows without what every row needs, and none with it, after which a log is given up."""
NEEDED = (NO_COUNT, NO_ANSWER)


@dataclass
class LeftOut:
    """Rows that were not used, counted by reason with the first of each.

    ``unseen``: columns that were asked for and that no row has had yet, by option.
    """

    log: Log
    reading: LogReading
    unseen: dict[str, str]
    rows: int = 0
    reasons: dict[str, tuple[int, Place]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def add(self, place: Place, defect: Defect) -> None:
        """Count a row; under ``strict`` it is an `InputError`."""
        if self.reading.settings.strict:
            detail = f" ({defect.detail})" if defect.detail else ""
            raise InputError(f"{place}: {defect.reason}{detail}; correct it, or leave --strict out")
        self.rows += 1
        rows, first = self.reasons.get(defect.reason, (0, place))
        self.reasons[defect.reason] = (rows + 1, first)
        self.details.setdefault(defect.reason, defect.detail)

    def see(self, row: LogRow) -> None:
        """Cross off what a row has of the columns that were asked for."""
        if self.unseen:
            self.unseen = {option: name for option, name in self.unseen.items() if field_of(row, option) is None}

    @property
    def hopeless(self) -> bool:
        """Whether so many rows lack the same that the rest need not be read."""
        return any(self.reasons[reason][0] >= HOPELESS for reason in NEEDED if reason in self.reasons)

    def counted(self) -> LeftOutRows:
        """Rows in all, and by reason, the most frequent first."""
        reasons = [
            LeftOutReason(reason, rows, place.number, self.shown(place)) for reason, (rows, place) in self._by_reason()
        ]
        return LeftOutRows(self.rows, reasons)

    def _by_reason(self) -> list[tuple[str, tuple[int, Place]]]:
        return sorted(self.reasons.items(), key=lambda item: -item[1][0])

    def shown(self, place: Place) -> str:
        """Where a row stands; the file is named where there are several."""
        return f"row {place.number}" if len(self.log.openings) == 1 else str(place)

    def notes(self) -> list[str]:
        """What became of columns that were asked for by name."""
        flags = {"--" + option.replace("_", "-"): name for option, name in self.unseen.items()}
        return [
            f"no row has a value at {name!r} ({flag}); the first row has {self._columns}"
            for flag, name in flags.items()
        ]

    @property
    def _columns(self) -> str:
        first = next((row for opening in self.log.openings for row in opening.first), {})
        return names_of(first)

    def refusal(self) -> InputError:
        """What to say when no row can be used."""
        source = f"{self.log.openings[0].name} ({self.log.format.title})"
        if not self.reasons:
            return InputError(f"{source} holds no rows; give a file with at least one response")
        found = self._by_reason()
        listed = "; ".join(
            f"{reason} ({rows} rows, first in {self.shown(place)})" for reason, (rows, place) in found[:4]
        )
        return InputError(
            f"{source}: no row can be graded: {listed}; {self._way_out(found[0][0])}; the first row has {self._columns}"
        )

    def _way_out(self, reason: str) -> str:
        if reason == NO_COUNT:
            return (
                "give --tokenizer FOLDER, the model's own, to count them, or name the column that has them by "
                "--tokens-column"
            )
        if reason != NO_ANSWER:
            return "name other columns by --response-column and the like"
        if self.details[reason]:
            return self.details[reason]
        file = self.reading.settings.answers
        if file is not None:
            return f"{file} has no answer under the names or texts of its problems, as {self._named()}"
        return (
            "join right answers by --answers FILE (rows of problem_id and answer), name their column by "
            "--answer-column, or take the log's own verdict by --verdict-column"
        )

    def _named(self) -> str:
        rows = (row for _, row in self.log.rows() if isinstance(row, LogRow))
        first = next(rows, None)
        return repr((first.problem_id or first.problem or "")[:60]) if first is not None else "none"
