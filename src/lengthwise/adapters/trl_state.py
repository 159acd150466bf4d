"""What a checkpoint of TRL's keeps of a method: its memory, and what is watched for warnings."""

from __future__ import annotations

from pathlib import Path

from lengthwise.engine.method import State
from lengthwise.engine.step_warnings import Watch
from lengthwise.errors import CheckpointError
from lengthwise.files import atomic_write_json, read_json

STATE = "lengthwise.json"


def write_state(checkpoint: Path, method: str, state: State, watch: Watch) -> None:
    """Put a method's memory beside TRL's files."""
    atomic_write_json(checkpoint / STATE, {"method": method, "state": dict(state), "watch": watch.state})


def read_state(checkpoint: Path, method: str) -> tuple[State, Watch]:
    """The memory that a checkpoint keeps.

    Raises:
        CheckpointError: none is there, or it is of another method.
    """
    path = checkpoint / STATE
    if not path.is_file():
        raise CheckpointError(f"{checkpoint} has no {STATE}; it is no checkpoint of a LengthwiseGRPOTrainer")
    kept = read_json(path)
    if kept["method"] != method:
        raise CheckpointError(
            f"{checkpoint} is of method {kept['method']!r}, not {method!r}; take the method it was begun with"
        )
    return kept["state"], Watch(kept["watch"])
