"""The examples do what they say, on less of it."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TOKENS = {"before": r"^before: .* ([\d.]+) tokens", "after": r"^after: .* ([\d.]+) tokens"}
EXPECTED = {
    "own_reward": {TOKENS["before"]: 68, TOKENS["after"]: 53},
    "own_method": {TOKENS["before"]: 68, TOKENS["after"]: 50, r"^caps: 60 .* (\d+)$": 54},
    "grade_server_logs": {
        r"^([\d.]+)% right": 76,
        r"([\d.]+) tokens a response": 79,
        r"^([\d.]+)% of the tokens of right": 58,
    },
    "extend_and_serve": {r"as it is: (\d+)%": 10, r"extended: (\d+)%": 95},
    "trl_two_processes": {TOKENS["before"]: 73, TOKENS["after"]: 59},
}
"""Of each example: what its prints hold, and which number its first lines say to expect there."""


def held_to(name: str, shown: str) -> None:
    """That an example prints what it says to expect, to the share that another machine may change."""
    said = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))) or ""
    for pattern, expected in EXPECTED[name].items():
        assert re.search(rf"\b{expected}\b", said), f"{name}.py does not say to expect {expected}"
        found = re.search(pattern, shown, re.MULTILINE)
        assert found is not None, f"{pattern} is not in\n{shown}"
        assert float(found[1]) == pytest.approx(expected, rel=0.2, abs=8), shown


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "trl_two_processes"])
def test_an_example_prints_what_it_says_to_expect(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    held_to(name, capsys.readouterr().out)


@pytest.mark.slow
def test_the_example_of_trl_runs_in_two_processes(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="the extra trl is not installed")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "trl_two_processes.py"], capture_output=True, text=True, check=False,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    held_to("trl_two_processes", done.stdout)


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"]({path.name})" in listed for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb"))


def test_dler_from_scratch_shortens_the_reasoner_and_fits_on_a_few_screens() -> None:
    path = EXAMPLES / "dler_from_scratch.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 150
    done = subprocess.run(
        [sys.executable, path, "--steps", "14", "--limit", "100"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = (float(tokens) for tokens in re.findall(r"%, ([\d.]+) tokens$", done.stdout, re.MULTILINE))
    assert 70 < before < 95 and after < 0.7 * before, done.stdout
