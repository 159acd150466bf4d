"""Whatever stands in a row where something else should: a row is read or left out with a reason, and nothing breaks."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from lengthwise.data import Defect
from lengthwise.errors import LengthwiseError
from lengthwise.logs.readers import LogRow, recognise
from reliability.log_seeds import RICH

ODD: list[Any] = [
    None, 0, -1, 1.5, True, "", "x", "7", [], {}, [None], [[]], [{}], {"x": 1}, {"0": {}}, float("nan"), float("inf"),
    10**400, "attachment://x", "\ud83d",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value inside of a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inside for place in places(one, (*path, key)))]


def changed(row: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    row = copy.deepcopy(row)
    for _ in range(1 + rng.randrange(3)):
        *way, last = rng.choice(places(row)[1:] or [("x",)])
        inner: Any = row
        for key in way:
            inner = inner[key]
        if isinstance(inner, dict) and rng.random() < 0.3:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(rng.choice(ODD))
    return row


@pytest.mark.parametrize("name", RICH)
def test_nothing_breaks(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    for attempt in range(15):
        rows = [changed(RICH[name], rng) for _ in range(2)]
        path = tmp_path / f"{attempt}.jsonl"
        whole = {"eval": {"task": "t"}, "plan": {}, "samples": rows}
        path.write_text(json.dumps(whole) if name == "inspect" else "".join(json.dumps(row) + "\n" for row in rows))
        try:
            items = [item for _, item in recognise(path).rows()]
        except LengthwiseError as error:
            assert "\n" not in str(error)
            continue
        for item in items:
            assert isinstance(item, LogRow | Defect)
            if isinstance(item, LogRow):
                check(item)


def check(row: LogRow) -> None:
    """All values are of the kinds that a row promises."""
    for text in (row.response, row.reasoning, row.problem, row.problem_id, row.category, row.finish_reason):
        assert text is None or isinstance(text, str)
    for count in (row.num_tokens, row.reasoning_tokens, row.shared_tokens):
        assert count is None or (isinstance(count, int) and count >= 0)
    assert isinstance(row.response, str) and isinstance(row.sample, int | str | None)
    assert all(isinstance(one, float) for one in row.verdicts.values())
