"""JSON read piece by piece: lines of a JSONL file, and the members of one big list or object."""

from __future__ import annotations

import io
import json
from collections.abc import Container, Iterator
from typing import BinaryIO

from lengthwise.data import DEEPEST, LINE_LIMIT, UNREADABLE, Defect, too_deep
from lengthwise.logs.readers.sources import DamagedError

PIECE = 1 << 16  # characters read at a time
SHOWN = 60
TOO_DEEP = f"lists or objects over {DEEPEST} deep"
_BOM = b"\xef\xbb\xbf"
_BLANK = " \t\r\n"
_OF_NUMBERS = "0123456789.eE+-"


def start_of(text: str) -> str:
    """How a text begins, for a message."""
    text = " ".join(text.split())
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def lines(file: BinaryIO) -> Iterator[tuple[int, bytes | Defect]]:
    """Lines with their numbers, blank ones passed over; one above `LINE_LIMIT` is a defect and is not held."""
    number = 0
    while line := file.readline(LINE_LIMIT + 1):
        number += 1
        too_long, rest = len(line) > LINE_LIMIT, line
        while too_long and rest and not rest.endswith(b"\n"):
            rest = file.readline(LINE_LIMIT)
        if number == 1:
            line = line.removeprefix(_BOM)
        if too_long:
            yield number, Defect(f"a line of over {LINE_LIMIT >> 20} MiB")
        elif line.strip():
            yield number, line


def parse_line(line: bytes) -> object:
    """What a line holds; a `Defect` where it is no JSON."""
    try:
        found = json.loads(line.decode("utf-8"))
        deep = line.count(b"[") + line.count(b"{") > DEEPEST and too_deep(found)
        return Defect(TOO_DEEP) if deep else found
    except UnicodeDecodeError as error:
        return Defect("not UTF-8 text", str(error))
    except UNREADABLE as error:
        if not line.endswith(b"\n"):
            return Defect("unfinished last line", start_of(line.decode("utf-8")))
        return Defect("not JSON", f"{error}: {start_of(line.decode('utf-8'))}")


def members(file: BinaryIO, enter: Container[str] = ()) -> Iterator[tuple[str | int, object]]:
    """The members of a JSON document one by one: ``(place, value)`` of a list, ``(key, value)`` of an object.

    A list under a key in ``enter`` is gone through as well: ``(key, entry)`` for each of its entries. One member is in
    memory at a time. Raises `DamagedError` where the document breaks off or is none.
    """
    text = _Text(io.TextIOWrapper(file, encoding="utf-8-sig"))
    first = text.take()
    if first == "[":
        yield from enumerate(text.entries())
    elif first == "{":
        yield from _pairs(text, enter)
    else:
        raise DamagedError(f"neither a JSON list nor an object: it begins with {first!r}")
    if rest := text.take():
        raise DamagedError(f"more after the end of the JSON document: {rest!r}")


def _pairs(text: _Text, enter: Container[str]) -> Iterator[tuple[str, object]]:
    if text.peek() == "}":
        text.take()
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise DamagedError(f"a key is {start_of(str(key))}, which is no text")
        text.want(":")
        if key in enter and text.peek() == "[":
            text.take()
            yield from ((key, entry) for entry in text.entries())
        else:
            yield key, text.value()
        if text.want(",}") == "}":
            return


class _Text:
    """A stream of characters, of which the part that is being read is held."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._decoder = json.JSONDecoder()
        self._held, self._at, self._ended = "", 0, False

    def entries(self) -> Iterator[object]:
        """Values of a list whose bracket was taken, and its closing bracket."""
        if self.peek() == "]":
            self.take()
            return
        while True:
            yield self.value()
            if self.want(",]") == "]":
                return

    def value(self) -> object:
        """The next value."""
        self.peek()
        size = PIECE
        while True:
            try:
                found, end = self._decoder.raw_decode(self._held, self._at)
            except RecursionError as error:
                raise DamagedError("brackets a thousand deep") from error
            except ValueError as error:
                if self._ended:
                    raise DamagedError(f"not JSON ({error}): {start_of(self._held[self._at :])}") from error
            else:
                # A number at the end of what is held may go on, as 1 may with .5 or e3.
                if self._ended or self._held[end:].strip(_OF_NUMBERS):
                    brackets = self._held.count("[", self._at, end) + self._held.count("{", self._at, end)
                    if brackets > DEEPEST and too_deep(found):
                        raise DamagedError(TOO_DEEP)
                    self._at = end
                    return found
            if len(self._held) - self._at > LINE_LIMIT:
                raise DamagedError(f"one value of over {LINE_LIMIT >> 20} MiB, or no JSON at all")
            self._more(size)
            size *= 2  # so that a long value is tried a few times only

    def want(self, marks: str) -> str:
        """Take a mark that must come next."""
        found = self.take()
        if not found or found not in marks:
            wanted = " or ".join(repr(mark) for mark in marks)
            raise DamagedError(f"{wanted} is missing before {start_of(found + self._held[self._at :][:SHOWN])}")
        return found

    def take(self) -> str:
        """The next character that is no blank, which is then read; none at the end."""
        found = self.peek()
        self._at += len(found)
        return found

    def peek(self) -> str:
        """The next character that is no blank."""
        while True:
            while self._at < len(self._held) and self._held[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._held) or self._ended:
                return self._held[self._at : self._at + 1]
            self._more(PIECE)

    def _more(self, size: int) -> None:
        try:
            piece = self._stream.read(size)
        except UnicodeDecodeError as error:
            raise DamagedError(f"not UTF-8 text ({error})") from error
        self._ended = not piece
        self._held, self._at = self._held[self._at :] + piece, 0
