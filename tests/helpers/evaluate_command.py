"""`lengthwise evaluate` on rows of the lab: what it is given, and what it answers as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from lengthwise.cli import app
from lengthwise.lab import chains

LAB = ["--preset", "lab", "--cap", "120"]


def write_rows(path: Path, count: int = 12, levels: tuple[int, ...] = (2, 3), **more: Any) -> Path:
    rows = [chain.row | more for chain in chains.problems(count, split="test", seed=0, levels=levels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def invoke(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def evaluated(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(invoke("evaluate", *arguments, "--json").stdout)
    return found
