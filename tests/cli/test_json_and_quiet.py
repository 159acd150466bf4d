"""`--json` and `--quiet` on every command: one object on stdout, and nothing at all where nothing fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wrong_words import write_inputs

from lengthwise import installation_check
from lengthwise.cli import COMMANDS, main
from lengthwise.config import tables
from lengthwise.config.commands import COMMANDS as SETTINGS

LAB = ("--data", "rows.jsonl", "--preset", "lab")
SMALL = ("--steps", "1", "--prompts", "2", "--group-size", "2")
DONE: dict[str, tuple[str, ...]] = {
    "grade": ("log.jsonl", "--workers", "1"),
    "evaluate": ("lab:chains", *LAB, "--cap", "20", "--limit", "3", "--out", "evaluated"),
    "demo": ("--steps", "1", "--limit", "2", "--out", "demo"),
    "shorten": (
        "lab:chains", *LAB, "--cap", "60", *SMALL, "--eval-limit", "3", "--eval-cap", "60", "--lr", "1e-4",
        "--out", "shortened",
    ),
    "report": ("shortened",),
    "compare": ("lab:chains", *LAB, "--methods", "grpo", "--dry-run", "--out", "compared"),  # its runs write into logs
    "methods": ("dler",),
    "generate": ("lab:chains", "--prompt", "7+5?", "--cap", "3"),
    "extend": ("lab:reader", "--scheme", "linear", "--factor", "2", "--overwrite", "--out", "extended"),
    "evaluate-context": ("lab:reader", "--lengths", "48", "--tasks", "lines", "--limit", "2", "--out", "read"),
    "merge": (
        "lab:terse", "--base", "lab:chains", "--method", "task-arithmetic", "--overwrite", "--out", "merged",
    ),
    "repair": ("lab:chains", "--harmful", "harmful.jsonl", "--overwrite", "--out", "repaired"),
    "export": ("trl", "lab:chains", *LAB, "--cap", "40", "--overwrite", "--out", "exported"),
    "compare-records": ("a=record.json", "b=other.json"),
    "doctor": (),
}  # fmt: skip
"""A command line that succeeds, and does so a second time, for every command."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    write_inputs(folder)
    return folder


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(words)
    return 0 if end.value.code is None else int(str(end.value.code))


def test_every_command_has_both() -> None:
    assert DONE.keys() == COMMANDS.keys()
    assert "--quiet" in tables.ALWAYS and all("json" in kind.entries() for kind in SETTINGS.values())


@pytest.mark.parametrize("name", DONE)
def test_a_command_is_quiet_and_gives_one_object(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(installation_check, "_extras", lambda: [])  # whichever are here
    assert ended(name, *DONE[name], "--quiet") == 0
    assert capfd.readouterr() == ("", "")
    assert ended(name, *DONE[name], "--json") == 0
    [line] = capfd.readouterr().out.splitlines()
    assert isinstance(json.loads(line), dict)


def test_both_at_once_give_the_object_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert ended("compare-records", *DONE["compare-records"], "--json", "--quiet") == 0
    shown = capfd.readouterr()
    assert "reference" in json.loads(shown.out) and shown.err == ""


def test_what_fails_is_said_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    assert ended("grade", "nowhere.jsonl", "--quiet") == 2
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and "nowhere.jsonl" in shown.err
