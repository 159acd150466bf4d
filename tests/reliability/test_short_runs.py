"""The harnesses at a few cases each: the committed results have many."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_commands_that_are_killed_at_random_go_on_to_the_same_files() -> None:
    names = ["kills-merge", "kills-grade"]  # one process: it imports what all of them need
    done = subprocess.run(
        [sys.executable, "-m", "reliability", *names, "--cases", "4"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("4 cases, 0 failures") == len(names)
