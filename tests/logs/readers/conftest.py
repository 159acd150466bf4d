"""The outputs that tools really wrote, and short ways to read a log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lengthwise.data import Defect
from lengthwise.logs.readers import LogRow, recognise

FILES = Path(__file__).parent / "files"


@pytest.fixture
def files() -> Path:
    """Folder of what the tools wrote, one folder a tool and its version."""
    return FILES


@pytest.fixture
def read() -> Callable[..., list[LogRow]]:
    """The responses of a log, none of whose rows is unusable."""

    def rows(log: Any, **options: Any) -> list[LogRow]:
        found = [item for _, item in recognise(log, **options).rows()]
        assert not [item for item in found if isinstance(item, Defect)], found
        return found  # type: ignore[return-value]

    return rows


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as JSON lines."""

    def lines(rows: Iterable[Mapping[str, Any]], name: str = "log.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return lines
