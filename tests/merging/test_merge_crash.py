"""A merge killed at any moment leaves its output absent, unfinished and refused, or whole."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from weightlab import Tensors, changed, read_model, same_bits, shipped_tensors, write_model

from lengthwise.config.commands import MergeSettings
from lengthwise.errors import LengthwiseError
from lengthwise.files import PARTIAL
from lengthwise.folder_lock import is_lock
from lengthwise.merging.merge_plan import preflight
from lengthwise.safetensors_io.reader import open_folder, verify_checksums

DRIVER = Path(__file__).parents[1] / "helpers" / "merge_driver.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root, base = tmp_path_factory.mktemp("models"), shipped_tensors()
    return [write_model(root / str(n), changed(base, n) if n else base) for n in range(3)]


@pytest.fixture(scope="module")
def wanted(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert start(folders, out, "none", 0).wait(timeout=60) == 0
    return read_model(out)


def start(folders: list[Path], out: Path, phase: str, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(DRIVER), *map(str, folders), str(out), phase, str(number)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def check(folders: list[Path], out: Path, wanted: Tensors, old: Tensors | None = None) -> str:
    """What the kill left: every folder beside the target is refused, the target is absent or whole."""
    for folder in out.parent.iterdir():
        if folder == out or is_lock(folder):  # a lock that a kill leaves holds nobody
            continue
        assert folder.name.startswith(PARTIAL)
        with pytest.raises(LengthwiseError, match=r"unfinished|no model.safetensors"):
            open_folder(folder)
        asked = {"method": "linear", "models": (str(folders[0]), str(folder)), "out": out.parent / "next"}
        assert preflight(MergeSettings.from_dict(asked)).errors
    if not out.exists():
        return "absent"
    verify_checksums(open_folder(out))
    found = read_model(out)
    if old is not None and same_bits(found, old):
        return "old"
    assert same_bits(found, wanted)
    for name in ("config.json", "tokenizer.json", "README.md", "merge.json", "lengthwise.json"):
        assert (out / name).is_file(), name
    return "whole"


# Renames: 1 checksums, 2 card, 3 report, 4 settings, 5 to 9 the five shards, 10 the index, 11 the folder.
PHASES = [
    ("half a block", 1), ("half a block", 40), ("at a sync", 4), ("before settings", 1), ("before the card", 1),
    ("before a rename", 3), ("after a rename", 7), ("before a rename", 10), ("before a rename", 11),
    ("after a rename", 11),
]  # fmt: skip


@pytest.mark.parametrize(("phase", "number"), PHASES)
def test_merging_10_9_killed_at_a_write(
    folders: list[Path], wanted: Tensors, tmp_path: Path, phase: str, number: int
) -> None:
    out = tmp_path / "out"
    assert start(folders, out, phase, number).wait(timeout=60) == -signal.SIGKILL
    assert check(folders, out, wanted) == ("whole" if (phase, number) == ("after a rename", 11) else "absent")
    # the same command then succeeds and clears up
    assert start(folders, out, "none", 0).wait(timeout=60) == 0
    assert check(folders, out, wanted) == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_killed_while_an_old_output_is_replaced(folders: list[Path], wanted: Tensors, tmp_path: Path) -> None:
    old = {name: 2 * w for name, w in shipped_tensors().items()}
    states = {}
    for number in range(10, 14):
        out = tmp_path / str(number) / "out"
        write_model(out, old)
        assert start(folders, out, "before a rename", number).wait(timeout=60) in (-signal.SIGKILL, 0)
        states[number] = check(folders, out, wanted, old)
    # 11 sets the old folder aside, 12 puts the new one in its place
    assert states == {10: "old", 11: "old", 12: "absent", 13: "whole"}
