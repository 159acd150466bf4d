"""YAML as settings need it: values and their lines out of a text, and a text out of values.

Read is version 1.2's core schema: ``1e-6`` is a number and ``off`` a word. Anchors, aliases and tags are refused, since
settings need none of them: so nothing is ever built by name, and a short text never stands for a long one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from lengthwise.errors import ConfigError

DEEPEST = 8
"""Tables and lists inside each other; settings have three."""
NULL, TRUE, FALSE = ("", "~", "null", "Null", "NULL"), ("true", "True", "TRUE"), ("false", "False", "FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,4000}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r"[A-Za-z./][\w./-]*( [\w./-]+)*", re.ASCII)
_WORDS = re.compile(r"(?i:null|true|false|yes|no|on|off|y|n|\.inf|\.nan)|[.\d].*")
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")


class YamlError(ConfigError):
    """A text is no YAML that settings could be read from; ``line`` counts from 1, None where it is not known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class _Reader:
    """Values out of a parser's events, and the line of every name."""

    events: Iterator[yaml.Event]
    lines: dict[str, int]

    def value(self, event: yaml.Event, depth: int = 0) -> object:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise YamlError(f"{event.anchor} is an anchor, which is not taken; write the value out", line)
        if getattr(event, "tag", None) is not None:
            raise YamlError(f"{event.tag} is a tag, which is not taken; leave it out", line)
        if depth > DEEPEST:
            raise YamlError("tables and lists lie too deep in each other; settings are a table, and groups in it", line)
        if isinstance(event, yaml.ScalarEvent):
            return scalar(event.value) if event.implicit[0] else event.value
        return self._list(depth) if isinstance(event, yaml.SequenceStartEvent) else self._table(depth)

    def _list(self, depth: int) -> list[object]:
        found = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            found.append(self.value(event, depth + 1))
        return found

    def _table(self, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            name, line = self.value(event, depth + 1), event.start_mark.line + 1
            if not isinstance(name, str):
                raise YamlError(f"{name!r} is no name of a setting; write a word before the colon", line)
            if name in found:
                raise YamlError(f"{name} is given twice; leave one of them out", line)
            self.lines.setdefault(name, line)
            found[name] = self.value(next(self.events), depth + 1)
        return found


def read(text: str) -> tuple[object, dict[str, int]]:
    """The value that a text holds, and for every name the first line where it is given a value.

    Raises:
        YamlError: it is no YAML, holds a name twice, or what settings have no use for.
    """
    lines: dict[str, int] = {}
    try:
        events = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        documents: list[object] = []
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if documents:
                    raise YamlError("a second document begins; give one", event.start_mark.line + 1)
                documents.append(_Reader(events, lines).value(next(events)))
    except yaml.YAMLError as error:
        raise _said(error, text) from None
    return (documents[0] if documents else None), lines


def _said(error: yaml.YAMLError, text: str) -> YamlError:
    """A parser's error in one line; a character that is not allowed has a place in place of a mark."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return YamlError(f"no YAML: {' '.join(str(error.problem).split())}", mark.line + 1)
    place = getattr(error, "position", 0)
    return YamlError("no YAML: a character that is not allowed", text.count("\n", 0, place) + 1)


def scalar(text: str) -> object:
    """What a word without quotes stands for: null, true, false, a number, or itself."""
    if text in NULL:
        return None
    if text in TRUE or text in FALSE:
        return text in TRUE
    if _INT.fullmatch(text):
        return int(text)
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        return float(text.lower().replace(".", ""))
    return float(text) if _FLOAT.fullmatch(text) else text


def write(value: object, *, inside: bool = False) -> str:
    """A value as YAML that `read` gives back; ``inside`` a list every text has quotes."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(write(entry, inside=True) for entry in value)}]"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and not _WORDS.fullmatch(value) and scalar(value) == value
        return value if plain and not inside else _quoted(value)
    if isinstance(value, float):
        return _number(value)
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else "null" if value is None else str(value)


def _quoted(text: str) -> str:
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _number(value: float) -> str:
    """Shortest text of a float, with a point before its exponent, without which YAML 1.1 reads a word."""
    if not math.isfinite(value):
        return f"{'-' if value < 0 else ''}.{'nan' if math.isnan(value) else 'inf'}"
    mantissa, exponent, power = repr(value).partition("e")
    return mantissa + (".0" if exponent and "." not in mantissa else "") + exponent + power
