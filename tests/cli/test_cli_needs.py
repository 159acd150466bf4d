"""Flags that would have no effect, and outputs that would take the place of what is not theirs, are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from flags import EVERYTHING
from wrong_words import BASES, SERVED, write_inputs

from lengthwise.cli import main
from lengthwise.config.commands import COMMANDS as SETTINGS


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert stopped.value.code == 2, said
    assert len(said.strip().splitlines()) == 1, said
    return said


def test_every_need_is_of_a_parameter_that_is_there() -> None:
    for command, kind in SETTINGS.items():
        assert {name for need in kind.needs for name in need.names} <= kind.entries().keys(), command


CASES = [
    *(("evaluate", flag) for flag in ("--tokenizer lab:chains", "--concurrency 16", "--retries 10", "--timeout 9")),
    *(("evaluate-context", flag) for flag in ("--tokenizer lab:chains", "--api-key-env X", "--timeout 9")),
    *(("served evaluate", flag) for flag in ("--device cpu", "--dtype float32", "--sample-rows 3")),
    *(("served evaluate-context", flag) for flag in ("--device cpu", "--dtype float32")),
    *(("evaluate", f"--temperature 0 {flag}") for flag in ("--top-p 0.9", "--samples 2", "--short-of 2")),
    *(("generate", flag) for flag in ("--top-p 0.9", "--seed 0")),
    *(("extend", flag) for flag in ("--lr 1e-5", "--steps 3", "--lora 8", "--dtype float32", "--text-column text")),
    ("extend", "--data rows.jsonl --steps 3 --epochs 1"),
    *(("evaluate-context", flag) for flag in ("--data rows.jsonl", "--text text.txt")),
    ("evaluate-context", "--tasks passkey --lines rows.jsonl"),
    ("evaluate-context", "--tasks perplexity --text rows.jsonl --chat-template"),
    *(("export", flag) for flag in ("--tensor-parallel 1",)),
    *(("export verl", flag) for flag in ("--vllm", "--sharding none", "--max-draws 8")),
]


@pytest.mark.parametrize(("command", "flags"), CASES)
def test_a_flag_without_effect_is_refused(place, capsys, command, flags) -> None:
    name = command.removeprefix("served ")
    name, _, engine = name.partition(" ")
    base = list(SERVED[name] if command.startswith("served ") else BASES[name])
    base[0] = engine or base[0]
    given = flags.split()
    last = next(word for word in reversed(given) if word.startswith("--"))
    assert f"{last} has no effect" in refused(capsys, name, *base, *given)
    assert not (place / "new").exists()


CONTEXT = ["evaluate-context", *BASES["evaluate-context"]]
NOT_TWICE = [
    (
        ["shorten", *BASES["shorten"], "--option", "clip_high=0.1", "--option", "clip_high=0.2"],
        "option names clip_high",
    ),
    (
        ["extend", *BASES["extend"], "--scheme", "yarn", "--option", "beta_fast=9", "--option", "beta_fast=8"],
        "beta_fast",
    ),
    (["compare", *BASES["compare"], "--option", "grpo:clip_high=1,2"], "give one, or all of them as --sweep"),
    (["compare", *BASES["compare"], "--option", "grpo:clip_high=1", "--option", "grpo:clip_high=2"], "of grpo twice"),
    (["evaluate-context", "lab:reader", *BASES["evaluate-context"]], "the model 'lab:reader' is named twice"),
    ([*CONTEXT, "--tasks", "lines,lines"], "the task 'lines' is named twice"),
    (
        [*CONTEXT, "--scheme", "lambda", "--scheme", "lambda"],
        "the scheme 'lambda'",
    ),
    ([*CONTEXT, "--scheme", "lambda:4"], "lambda takes no factor"),
    ([*CONTEXT, "--scheme", "linear"], "with factor 1 changes nothing"),
    ([*CONTEXT, "--tasks", "lines,passkey"], "a passkey prompt needs at least"),
    (["shorten", *BASES["shorten"], "--method", "grpo", "--max-draws", "3"], "keeps whatever it draws"),
    (["shorten", *BASES["shorten"], "--stage", "dpo"], "has no stages to run alone; leave it out"),
    (["shorten", *BASES["shorten"], "--stage", "dpo", "--dry-run"], "has no stages to run alone"),
]


@pytest.mark.parametrize(("arguments", "says"), NOT_TWICE, ids=lambda value: " ".join(value) if value else "")
def test_what_would_be_passed_over_is_refused(place, capsys, arguments, says) -> None:
    assert says in refused(capsys, *arguments)
    assert not (place / "new").exists()


def test_overwriting_a_folder_of_no_name_is_refused(place, capsys) -> None:
    assert "--overwrite has no effect without --out" in refused(capsys, "demo", "--overwrite")
    arguments = ["lab:chains", "--data", "rows.jsonl", "--preset", "lab", "--overwrite"]
    assert "--overwrite has no effect without --out" in refused(capsys, "evaluate", *arguments)


@pytest.mark.parametrize("flag", ["--preset lab", "--think", "--system-prompt x", "--grader a:b"])
def test_a_world_of_the_lab_asks_in_its_own_way(place, capsys, flag) -> None:
    arguments = ["compare", "lab:chains", "--methods", "grpo", "--out", "new", *flag.split()]
    assert "has no effect in a world of the lab" in refused(capsys, *arguments)


MODEL_FOLDER = ["config.json", "model.safetensors", "tokenizer.json"]
KEEPING = [
    ["shorten", *BASES["shorten"][:-1], "mine", "--overwrite"],
    ["shorten", *BASES["shorten"][:-1], "mine"],
    ["shorten", *BASES["shorten"][:-1], "mine", "--cap", "auto"],
    ["shorten", *BASES["shorten"][:-1], "mine", "--dry-run"],
    ["evaluate", *BASES["evaluate"][:-1], "mine", "--overwrite"],
    ["compare", *BASES["compare"][:-1], "mine", "--overwrite"],
    ["demo", "--out", "mine", "--overwrite"],
    ["evaluate-context", *BASES["evaluate-context"][:-1], "mine"],
    ["report", "mine"],
    ["report", "run", "mine"],
    ["report", "run", "--out", "page.png"],
    ["compare-records", *BASES["compare-records"], "--out", "page.png"],
    ["grade", "log.jsonl", "--out", "x", "--report", "./x"],
    ["grade", "log.jsonl", "--out", "x", "--record", "x"],
    ["grade", "log.jsonl", "--out", "log.jsonl"],
    ["extend", *BASES["extend"][:-1], "notes", "--overwrite"],
    ["merge", *BASES["merge"][:-1], "notes", "--overwrite"],
    ["repair", *BASES["repair"][:-1], "notes", "--overwrite"],
    ["extend", "mine", "--scheme", "linear", "--factor", "2", "--out", "mine", "--overwrite"],
]


@pytest.mark.parametrize("arguments", KEEPING, ids=" ".join)
def test_what_is_not_of_the_command_is_neither_written_into_nor_deleted(place, capsys, arguments) -> None:
    (place / "mine").mkdir()
    for name in MODEL_FOLDER:
        (place / "mine" / name).write_text('{"model_type": "qwen2"}')
    (place / "notes").mkdir()
    (place / "notes" / "note.txt").write_text("mine")
    before = {path: path.lstat().st_mtime_ns for path in place.rglob("*") if not path.is_dir()}
    refused(capsys, *arguments)
    assert {path: path.lstat().st_mtime_ns for path in place.rglob("*") if not path.is_dir()} == before


def test_a_leftover_of_a_killed_run_does_not_occupy_a_folder(tmp_path) -> None:
    from lengthwise.runs.run_folder import check_run_folder

    (tmp_path / ".partial-7-config.json").write_text("{")
    assert not check_run_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"environment": {}}')
    assert check_run_folder(tmp_path)


def test_every_output_is_tried_out_while_the_words_are_read() -> None:
    outputs = [one for one in EVERYTHING if one.word in ("--out", "--record", "--report")]
    assert len(outputs) == 14
    for one in outputs:
        assert SETTINGS[one.command].entries()[one.word.removeprefix("--")].facts.writes is not None, one
