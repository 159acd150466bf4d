"""A run's config.json, given back by --config, is the same run bit for bit; one flag more varies it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lengthwise.cli import main
from lengthwise.lab import chains


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("again")
    rows = [chain.row for chain in chains.problems(60, split="train", seed=0, levels=(2, 3))]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def outcome(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    code, shown, complaints = run(capsys, "shorten", *words, "--json")
    assert code == 0, complaints
    return json.loads(shown)  # type: ignore[no-any-return]


def test_a_run_folder_is_a_config_that_gives_the_same_run(place: Path, capsys) -> None:
    flags = ["--data", place / "rows.jsonl", "--preset", "lab", "--method", "grpo", "--cap", "auto", "--eval-cap", "90",
             "--steps", 3, "--prompts", 2, "--group-size", 4, "--lr", 1e-4, "--eval-limit", 4, "--seed", 5,
             "--option", "clip_high=0.3", "--device", "cpu"]  # fmt: skip
    first = outcome(capsys, "lab:chains", *flags, "--out", place / "one")
    again = outcome(capsys, "--config", place / "one", "--out", place / "two")
    assert first["weights_sha_after"] == again["weights_sha_after"] != first["weights_sha_before"]
    assert first["after"] == again["after"] and first["cap_choice"] == again["cap_choice"]
    one, two = (json.loads((place / name / "config.json").read_text()) for name in ("one", "two"))
    assert one == two and one["command"] == "shorten" and one["settings"]["option"] == ["clip_high=0.3"]
    # The same command continues the folder; another setting is another run, and is one more folder.
    assert outcome(capsys, "lab:chains", *flags, "--out", place / "one")["after"] == first["after"]
    code, _, complaint = run(capsys, "shorten", "--config", place / "one", "--lr", "2e-4", "--out", place / "one")
    assert code == 2 and "another config (lr: 0.0001 there, 0.0002 now)" in complaint
    varied = outcome(capsys, "--config", place / "one", "--lr", "2e-4", "--out", place / "three")
    assert varied["weights_sha_before"] == first["weights_sha_before"]
    assert varied["weights_sha_after"] != first["weights_sha_after"]


def test_a_folder_of_an_older_version_is_refused_in_one_line(place: Path, capsys) -> None:
    (place / "old").mkdir()
    old = {"model": "lab:chains", "train": {"steps": 3}, "method": {"name": "dler"}, "environment": {}}
    (place / "old" / "config.json").write_text(json.dumps(old))
    words = ["lab:chains", "--data", place / "rows.jsonl", "--preset", "lab", "--cap", 40, "--out", place / "old"]
    code, _, complaint = run(capsys, "shorten", *words)
    assert code == 2 and "which holds a run of another command, or of an older version of lengthwise" in complaint
    code, _, complaint = run(capsys, "shorten", "--config", place / "old", "--out", place / "new")
    assert code == 2 and "holds no settings" in complaint and len(complaint.splitlines()) == 1


def test_print_config_prints_all_settings_and_does_nothing(place: Path, capsys) -> None:
    words = ["lab:chains", "--data", "nowhere.jsonl", "--cap", 40, "--out", place / "none"]
    code, shown, _ = run(capsys, "shorten", *words, "--print-config")
    assert code == 0 and shown.startswith('command: shorten\n\n# Model\nmodel: "lab:chains"\n')
    assert "\nlr: 1.0e-06\n" in shown and not (place / "none").exists()
