"""Metrics of a run: JSON lines that are cut back to a checkpoint's step, and the same as TensorBoard events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from lengthwise.data import UNREADABLE
from lengthwise.errors import CheckpointError
from lengthwise.files import atomic_write_text, sync

METRICS = "metrics.jsonl"
EVENTS = "tensorboard"


def read_metrics(folder: Path) -> list[dict[str, object]]:
    """The metrics of a run's steps, in order; a last line that a kill tore apart is left out."""
    return list(_whole_lines(folder / METRICS))


def _whole_lines(path: Path) -> Iterator[dict[str, object]]:
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").split("\n")
    # Only a line that ends in a newline was written whole; what follows the last one was torn by a kill.
    for number, line in enumerate(lines[:-1], 1):
        yield _row(line, f"{path}, line {number}")


def _row(line: str, place: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except UNREADABLE as error:
        raise CheckpointError(f"{place} is damaged ({error}); remove the line") from error
    if not isinstance(row, dict) or type(row.get("step")) is not int or not isinstance(row.get("warnings", []), list):
        raise CheckpointError(f"{place} is damaged (no object with its step); remove the line")
    return row


def _step(row: Mapping[str, object]) -> int:
    return int(str(row["step"]))


class RunLog:
    """Appends one JSON line per step and mirrors numbers as TensorBoard events."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Open the log of a run that continues after `step`: later lines and events are dropped."""
        from tensorboardX.event_file_writer import EventsWriter

        self.path = folder / METRICS
        rows = [row for row in _whole_lines(self.path) if _step(row) <= step]
        atomic_write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        events = folder / EVENTS
        for old in events.glob("events.*"):
            old.unlink()
        events.mkdir(parents=True, exist_ok=True)
        # Not its SummaryWriter, whose thread dies of a full disk, and whose queue then holds up the run for ever.
        self.writer = EventsWriter(str(events / "events"))
        for row in rows:
            self._events(row)

    def write(self, row: Mapping[str, object]) -> None:
        """Append the metrics of one step."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row), allow_nan=False) + "\n")
        # A checkpoint that outlives a power cut must not find lines missing before its step.
        sync(self.path)
        self._events(row)

    def close(self) -> None:
        """Flush the events."""
        self.writer.close()

    def _events(self, row: Mapping[str, object]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in row.items():
            if isinstance(value, int | float) and name != "step":
                summary = scalar(f"train/{name}", value)
                self.writer.write_event(Event(wall_time=time.time(), step=_step(row), summary=summary))
        self.writer.flush()
