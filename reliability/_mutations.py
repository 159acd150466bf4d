"""What makes bytes, JSON values, texts and names wrong, each drawn from a generator of random numbers."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable, Iterator, Sequence

from lengthwise.json_types import JsonValue

HUGE_LINE = 10 * 2**20
DEEPEST = 12
"""So deep a value is changed inside."""
ODD_TEXTS = (
    "", " ", "\x00", "a\x00b", "\ufeff", "\ud83d", "\u202e", "\u2028", "é" * 40, "𝟙𝟚", "\\", "%s%n", "{{7*7}}", "{0}",
    "../../x", "/etc/passwd", "~", "-", "--help", "$(touch x)", "`x`", "<script>x</script>", "a\r\nb", "\x1b[31m",
    "nan", "inf", "1e999", "0x10", "null", "true", "[", "(" * 2000, "\\frac" * 300, "x" * 70_000, "lab:chains",
    "1" * 5000,
)  # fmt: skip
ODD_NUMBERS: tuple[JsonValue, ...] = (
    0, -1, 1.5, True, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, float("nan"), float("inf"), -0.0, 1e308, 1e-320,
)  # fmt: skip
NAMES = (
    "plain", "a b", "ü ñ", "日本", "-dash", "--out", "a'b\"c", "tab\there", "new\nline", "$HOME", "%41", "[a]", "*",
    "?", "\udcff", "x" * 200, ".hidden", "a.b.c", "{x}", "🙂", "\u202egnp", " lead", "trail ", "#1", "a;b", "é\u0301",
)  # fmt: skip


def odd_value(rng: random.Random, depth: int = 0) -> JsonValue:
    """Any JSON value, the odd ones first."""
    kind = rng.randrange(8 if depth < 3 else 4)
    if kind in (0, 1):
        return rng.choice(ODD_TEXTS)
    if kind == 2:
        return rng.choice(ODD_NUMBERS)
    if kind == 3:
        return rng.choice([None, True, False, "7", 7, [], {}])
    if kind in (4, 5):
        return [odd_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 6:
        return {rng.choice(ODD_TEXTS)[:50]: odd_value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return nested(rng.choice([3, 30, 900, 5000]))


def nested(depth: int) -> JsonValue:
    """Lists in lists."""
    value: JsonValue = []
    for _ in range(min(depth, 900)):  # what json.dumps still writes; deeper ones are made of text
        value = [value]
    return value


def places(value: JsonValue, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths to every value inside of a value, itself first."""
    yield path
    if len(path) > DEEPEST:
        return
    if isinstance(value, dict):
        for name, one in value.items():
            yield from places(one, (*path, name))
    elif isinstance(value, list):
        for place, one in enumerate(value[:20]):
            yield from places(one, (*path, place))


def changed_value(value: JsonValue, rng: random.Random, *, times: int = 3) -> JsonValue:
    """A value with some of what is inside replaced, removed, renamed or doubled."""
    value = copy.deepcopy(value)
    for _ in range(1 + rng.randrange(times)):
        inside = [path for path in places(value) if path]
        if not inside:
            return odd_value(rng)
        path = rng.choice(inside)
        _change(_at(value, path[:-1]), path[-1], rng)
    return value


def _at(value: JsonValue, path: Sequence[str | int]) -> JsonValue:
    for key in path:
        value = value[key]  # type: ignore[index]  # a path of `places` leads there
    return value


def _change(holder: JsonValue, last: str | int, rng: random.Random) -> None:
    how = rng.randrange(6)
    if isinstance(holder, dict) and isinstance(last, str):
        if how == 0:
            del holder[last]
        elif how == 1:
            holder[rng.choice(ODD_TEXTS)[:80]] = holder.pop(last)
        else:
            holder[last] = odd_value(rng)
    elif isinstance(holder, list) and isinstance(last, int):
        if how == 0:
            del holder[last]
        elif how == 1:
            holder.insert(last, holder[last])
        else:
            holder[last] = odd_value(rng)


def dumped(value: JsonValue, rng: random.Random) -> bytes:
    """A value as JSON, in one of the ways in which it may be written; half a character stays one."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.7, indent=rng.choice([None, None, 1]))
    return text.encode("utf-8", "surrogatepass")


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes made wrong, once or a few times over."""
    for _ in range(1 + rng.randrange(3)):
        data = rng.choices(list(_BYTES), list(_BYTES.values()))[0](data, rng)
    return data


def _flipped(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(1 + rng.randrange(8) if found else 0):
        found[rng.randrange(len(found))] = rng.choice([0, 9, 10, 13, 34, 44, 91, 92, 93, 123, 125, rng.randrange(256)])
    return bytes(found)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _spliced(data: bytes, rng: random.Random) -> bytes:
    start, stop = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[start:stop] * rng.choice([1, 1, 2, 50]) + data[place:]


def _without(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.randrange(60) :]


def _inserted(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    piece = rng.choice(ODD_TEXTS).encode("utf-8", "surrogatepass")
    return data[:place] + piece + data[place:]


def _encoded(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-8-sig"]), "replace")


def _mixed(data: bytes, rng: random.Random) -> bytes:
    half = len(data) // 2
    return data[:half] + _encoded(data[half:], rng)


def _numbered(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice([b"1" * 6000, b"-", b"1e400", b"NaN", b"-Infinity", b"00"]) + data[place:]


def _deep(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice([b"[", b'{"a":', b"((", b"- "]) * rng.choice([50, 3000, 100_000]) + data[place:]


def _line_ends(data: bytes, rng: random.Random) -> bytes:
    return data.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\n", b"\x00\n", b"\x0b", b"\xe2\x80\xa8"]))


def _packed(data: bytes, rng: random.Random) -> bytes:
    packed = gzip.compress(data, 1)
    return packed if rng.random() < 0.5 else _flipped(packed, rng)


def _long(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice([b"x", b" ", b"\x00", b"7", b"\\", b"<", b"$"]) * HUGE_LINE + data[place:]


_BYTES: dict[Callable[[bytes, random.Random], bytes], float] = {
    _flipped: 6, _cut: 4, _spliced: 4, _without: 4, _inserted: 6, _encoded: 1, _mixed: 1, _numbered: 2, _deep: 1,
    _line_ends: 2, _packed: 0.5, _long: 0.05,
    lambda data, _: b"\xef\xbb\xbf" + data: 1,
    lambda data, rng: data + rng.randbytes(rng.randrange(40)): 1,
}  # fmt: skip
"""How bytes are made wrong, and how often."""
