"""A change that should alter no number alters none: small runs give the hashes that they gave before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from number_hashes import KNOWN, RUNS, arithmetic

HASHES = json.loads(KNOWN.read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")
@pytest.mark.parametrize("run", RUNS)
def test_numbers_are_as_they_were(run: str, tmp_path: Path) -> None:
    known = HASHES.get(arithmetic())
    if known is None:
        pytest.skip(f"no hashes for this arithmetic (torch {torch.__version__}); helpers/number_hashes.py makes them")
    assert RUNS[run](tmp_path / "run") == known[run]
