"""Tells which format a log has, from the form of its files and their first rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lengthwise.errors import ConfigError, InputError
from lengthwise.logs.readers.given_fields import NO_FIELDS, Fields
from lengthwise.logs.readers.log_format import LogFormat, Reading
from lengthwise.logs.readers.log_row import Items, LogRow
from lengthwise.logs.readers.openings import Opening, open_log
from lengthwise.logs.readers.registry import log_format, log_formats
from lengthwise.logs.readers.row_values import at, names_of
from lengthwise.logs.readers.sources import Source, find_sources

FLAT = "flat"
FORCED = "--format"


@dataclass(frozen=True)
class Log:
    """A log whose format is known. ``passed_over``: files of a folder that are none of it."""

    format: LogFormat
    openings: tuple[Opening, ...]
    reading: Reading
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What was recognised, and how, in one line."""
        files = f"{len(self.openings)} files" if len(self.openings) > 1 else ""
        over = len(self.passed_over)
        rest = f"{over} other {'file' if over == 1 else 'files'} passed over" if over else ""
        return ", ".join(part for part in (self.format.title, *self.reading.says, files, rest) if part)

    def rows(self) -> Items:
        """Its responses in the order of the files, each with its place; a `Defect` for a row that cannot be used."""
        return self.reading.rows()


def recognise(
    log: str | Path | Iterable[str | Path], *, format_like: str | None = None, fields: Fields = NO_FIELDS
) -> Log:
    """Find a log's files and tell their format; ``str`` of the result says in one line what it is.

    ``log``: a file, a folder, a pattern, several of them, or ``-`` for standard input (`find_sources`). In a folder,
    files that are no log are passed over. ``format_like``: the name of a format that is not to be found out.
    ``fields``: paths that go before the format's own; a path of the response makes the rows flat ones.

    Raises:
        InputError: no file, none of a known format, files of two formats, or none of the first rows has a response; the
            message names the format, what was found and the way out.
        ConfigError: no such format.
        MissingExtraError: what reads a file's form is not installed.
    """
    forced = _forced(format_like, fields)
    several = [log] if isinstance(log, str | Path) else list(log)
    sources = find_sources(several)
    name, searched = ", ".join(map(str, several)), any(Path(one).is_dir() for one in several)
    openings = list(_opened(sources, searched, forced))
    if not openings:
        raise InputError(f"{name} holds {len(sources)} files and none that can be read as rows; name the log itself")
    form = forced or _format_of_all(openings, name)
    chosen = _that_fit(openings, form, searched, fields)
    others = tuple(opening.name for opening in openings if opening not in chosen)
    found = Log(form, tuple(chosen), form.read(chosen, fields), others)
    _try_out(found)
    return found


def _forced(name: str | None, fields: Fields) -> LogFormat | None:
    if fields.response is None:
        return None if name is None else log_format(name)
    if name is not None and not log_format(name).general:
        raise ConfigError(
            f"the response is to be read from {fields.response!r}, and the format {name} has it in a place of its own; "
            "give one of the two"
        )
    return log_format(name or FLAT)


def _opened(sources: Sequence[Source], searched: bool, forced: LogFormat | None) -> Iterable[Opening]:
    for source in sources:
        try:
            yield open_log(source)
        except InputError as error:
            if searched:
                continue
            if forced is None:
                raise
            raise InputError(f"{error}; {forced.title} ({FORCED} {forced.name}) needs {forced.needs}") from error


def _format_of_all(openings: Sequence[Opening], log: str) -> LogFormat:
    """The one format that the files have; one that fits many files gives way to one that does not."""
    fitting = [one for opening in openings if (one := _format_of(opening)) is not None]
    special = [one for one in fitting if not one.general] or fitting
    if not special:
        raise _unknown(openings[0], len(openings), log)
    if any(one is not special[0] for one in special):
        raise InputError(f"{log} holds logs of several formats: {_listed(special)}; name the files of one of them")
    return special[0]


def _format_of(opening: Opening) -> LogFormat | None:
    fitting = [one for one in log_formats().values() if one.fits(opening)]
    special = [one for one in fitting if not one.general] or fitting
    if len(special) > 1:
        names = " and ".join(one.name for one in special)
        raise InputError(f"{opening.name} could be {names}; say which by {FORCED} NAME")
    return special[0] if special else None


def _listed(fitting: Sequence[LogFormat]) -> str:
    counts = Counter(one.title for one in fitting)
    return ", ".join(f"{title} ({files} {'file' if files == 1 else 'files'})" for title, files in counts.items())


def _that_fit(openings: Sequence[Opening], form: LogFormat, searched: bool, fields: Fields) -> list[Opening]:
    """The files of a format; any other is an error, but in a folder."""
    own = fields.response if form.general else None
    fitting = [one for one in openings if form.fits(one) or (own and any(at(row, own) for row in one.first))]
    others = [opening for opening in openings if opening not in fitting]
    if others and (not searched or not fitting):
        like = _format_of(others[0])
        seems = "" if like is None else f"; it looks like {like.title} ({FORCED} {like.name})"
        needs = form.needs if own is None else f"a value at {own!r} (--response-column)"
        raise InputError(f"{others[0].name} is not {form.title}: {_what(others[0])}, and it needs {needs}{seems}")
    return fitting


def _unknown(opening: Opening, files: int, log: str) -> InputError:
    which = opening.name if files == 1 else f"none of the {files} files of {log} has a known format; {opening.name}"
    return InputError(
        f"{which} is a log of no known format ({opening.form}): {_what(opening)}; name the response's column "
        f"(--response-column, a dotted path is fine), or the format: {FORCED} {', '.join(log_formats())}"
    )


def _what(opening: Opening) -> str:
    if opening.first:
        return f"its first row has {names_of(opening.first[0])}"
    return f"it holds {', '.join(opening.keys[:6]) or 'nothing'}"


def _try_out(log: Log) -> None:
    """Refuse a log of whose rows none has a response; the first reason is told."""
    reason, rows = None, 0
    for place, item in log.rows():
        if isinstance(item, LogRow):
            return
        reason, rows = reason or (place, item), rows + 1
    name = log.openings[0].name
    if reason is None:
        raise InputError(f"{name} is {log.format.title} without a row; give a log with at least one response")
    place, defect = reason
    detail = f" ({defect.detail})" if defect.detail else ""
    raise InputError(
        f"{place}: {log.format.title}, but no row has a response ({rows} in all): {defect.reason}{detail}; "
        f"it needs {log.format.needs}"
    )
