"""Run one merge of given folders in this process, and kill the process at a chosen moment (for test_merge_crash)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lengthwise.merging.folder_merge as folders
from lengthwise.config.commands import MergeSettings
from lengthwise.merging.folder_merge import merge_folders
from lengthwise.safetensors_io.writer import ShardWriter


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(owner: Any, name: str, number: int, act: Callable[[Callable[[], Any], tuple[Any, ...]], Any]) -> None:
    """Put `act` in the place of the given call of a function."""
    real, calls = getattr(owner, name), [0]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            return act(lambda: real(*arguments, **options), arguments)
        return real(*arguments, **options)

    setattr(owner, name, wrapped)


def half_a_block(_: Callable[[], Any], arguments: tuple[Any, ...]) -> None:
    writer, data = arguments
    writer._file.write(data[: len(data) // 2])
    writer._file.flush()
    die()


def main() -> None:
    base, first, second, out, phase, number = sys.argv[1:]
    killers: dict[str, Callable[[int], None]] = {
        "none": lambda _: None,
        "half a block": lambda n: at_call(ShardWriter, "_write_and_sum", n, half_a_block),
        "before settings": lambda n: at_call(folders, "copy_settings", n, lambda *_: die()),
        "before the card": lambda n: at_call(folders, "write_card", n, lambda *_: die()),
        "before a rename": lambda n: at_call(Path, "replace", n, lambda *_: die()),
        "after a rename": lambda n: at_call(Path, "replace", n, lambda real, _: (real(), die())),
        "at a sync": lambda n: at_call(os, "fsync", n, lambda *_: die()),
    }
    killers[phase](int(number))
    merge_folders(
        MergeSettings.from_dict(
            {"method": "task-arithmetic", "base": base, "models": (first, second), "out": out, "overwrite": True}
        ),
        elements=20_000,
        shard_bytes=600_000,
    )


if __name__ == "__main__":
    main()
