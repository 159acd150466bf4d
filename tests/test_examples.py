"""The examples do what they say, on less of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_dler_from_scratch_shortens_the_reasoner_and_fits_on_a_few_screens() -> None:
    path = EXAMPLES / "dler_from_scratch.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 150
    done = subprocess.run(
        [sys.executable, path, "--steps", "14", "--limit", "100"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = (float(tokens) for tokens in re.findall(r"%, ([\d.]+) tokens$", done.stdout, re.MULTILINE))
    assert 70 < before < 95 and after < 0.7 * before, done.stdout
