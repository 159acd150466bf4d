"""What a dry run says a run takes, against the peak of a process that runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "peak_memory.py"


@pytest.mark.slow
def test_the_estimate_is_within_a_fifth_of_what_a_run_on_the_lab_s_model_takes(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    # coverage of the child would count its own memory
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    asked = ["--cap", "60", "--prompts", "8", "--case", "0", "--json", str(out)]
    subprocess.run([sys.executable, str(BENCHMARK), *asked], check=True, capture_output=True, env=environment)
    assert 0.8 < json.loads(out.read_text())["cases"][0]["ratio"] < 1.2
