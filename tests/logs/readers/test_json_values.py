"""JSON piece by piece gives what reading it whole gives, and says where it breaks."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pytest

from lengthwise.logs.readers import json_values
from lengthwise.logs.readers.json_values import members
from lengthwise.logs.readers.sources import DamagedError


def value(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.randrange(8 if depth else 6)
    simple = [None, True, rng.randrange(10**6), -1.5e-3, 'q"\\[]{},:\n', "ü🙂" * rng.randrange(40)]
    if kind < 6:
        return simple[kind]
    if kind == 6:
        return [value(rng, depth - 1) for _ in range(rng.randrange(5))]
    return {f"k{n}": value(rng, depth - 1) for n in range(rng.randrange(5))}


def pieces(text: str, enter: tuple[str, ...] = ()) -> list[tuple[Any, Any]]:
    return list(members(io.BytesIO(text.encode()), enter))


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_any_document_in_pieces_of_any_size(monkeypatch, size):
    monkeypatch.setattr(json_values, "PIECE", size)
    rng = random.Random(size)
    for indent in (None, 2):
        for _ in range(40):
            entries = [value(rng) for _ in range(rng.randrange(6))]
            named = {f"m{n}": one for n, one in enumerate(entries)}
            assert pieces(json.dumps(entries, indent=indent)) == list(enumerate(entries))
            assert pieces(json.dumps(named, indent=indent, ensure_ascii=False)) == list(named.items())
            inside = json.dumps({"head": 1, "rows": entries, "tail": [2]}, indent=indent)
            assert pieces(inside, ("rows",)) == [("head", 1), *(("rows", one) for one in entries), ("tail", [2])]


@pytest.mark.parametrize(
    ("text", "said"),
    [("[1, 2", "missing before ''"), ("[1 2]", "',' or ']' is missing before '2"), ('{"a" 1}', "':' is missing"),
     ("[1] 2", "more after the end"), ("7", "neither a JSON list nor an object"), ("{1: 2}", "no text"),
     ('{"a": tru}', "not JSON"), ("[" * 100_000, "thousand deep")],
)  # fmt: skip
def test_what_is_wrong_is_said(text, said):
    with pytest.raises(DamagedError, match=said):
        pieces(text)


def test_bytes_that_are_no_text():
    with pytest.raises(DamagedError, match="not UTF-8"):
        list(members(io.BytesIO(b'["\xff\xfe"]')))
