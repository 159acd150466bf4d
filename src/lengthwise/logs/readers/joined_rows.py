"""Facts of one file that rows of another need, kept on the disk, so that memory does not grow with the log."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from lengthwise.logs.readers.row_values import clean


class JoinedRows:
    """Values by two texts, in a temporary database that is gone when it is closed.

    ``SQLITE_TMPDIR`` says where it lies.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE facts (key TEXT, part TEXT, value TEXT, PRIMARY KEY (key, part)) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def __del__(self) -> None:
        self._db.close()  # a log that is not read to its end keeps its facts as long as itself

    def add(self, key: str, part: str, value: object) -> bool:
        """Keep a value; false, and nothing changes, where there is one already."""
        facts = (clean(key), clean(part), json.dumps(value, default=str))
        done = self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?, ?)", facts)
        return done.rowcount == 1

    def of(self, key: str) -> Mapping[str, object]:
        """All values of a key by part, in the order of the parts."""
        found = self._db.execute("SELECT part, value FROM facts WHERE key = ? ORDER BY part", (clean(key),))
        return {part: json.loads(value) for part, value in found}

    def parts(self) -> list[str]:
        """The parts that any key has, in their order."""
        return [part for (part,) in self._db.execute("SELECT DISTINCT part FROM facts ORDER BY part")]
