"""Model folders with something wrong in them: one line that names the folder, whatever the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from wrong_words import write_inputs

from lengthwise.cli import main
from lengthwise.lab.reasoner import shipped_reasoner

YARN = {"rope_type": "yarn", "factor": "x", "rope_theta": 1.0}
WRONG = {
    "a negative count": {"num_hidden_layers": -1},
    "a word for a number": {"hidden_size": "x"},
    "a word for a length": {"max_position_embeddings": "x"},
    "no heads": {"num_attention_heads": 0},
    "an unknown kind": {"model_type": "nope"},
    "a factor that is none": {"rope_parameters": YARN},
    "an unknown activation": {"hidden_act": "nope"},
    "an unknown dtype": {"dtype": "float12"},
}
COMMANDS = {
    "generate": ["generate", "model", "--prompt", "7+5?"],
    "evaluate": ["evaluate", "model", "--data", "rows.jsonl", "--preset", "lab", "--cap", "9", "--out", "new"],
    "shorten": ["shorten", "model", "--data", "rows.jsonl", "--preset", "lab", "--cap", "40", "--out", "new"],
    "repair": ["repair", "model", "--harmful", "harmful.jsonl", "--out", "new"],
    "evaluate-context": ["evaluate-context", "model", "--lengths", "48", "--tasks", "lines", "--out", "new"],
    "extend": ["extend", "model", "--scheme", "linear", "--factor", "2", "--out", "new"],
    "merge": ["merge", "model", "--base", "lab:chains", "--method", "task-arithmetic", "--out", "new"],
}
FILES = {"config.json": "[1]", "generation_config.json": "[1]", "tokenizer.json": "{}"}
LEAVES = ("a word for a length", "an unknown dtype", "a factor that is none", "an unknown activation")
"""What a command passes over that copies folders and computes nothing with them."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_inputs(tmp_path)
    shutil.copytree(shipped_reasoner(), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], place: Path) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert stopped.value.code == 2 and len(errors) == 1, said
    assert not (place / "new").exists()
    return errors[0]


COPYING = ("extend", "merge")
CASES = [(c, wrong) for c in COMMANDS for wrong in WRONG if not (c in COPYING and wrong in LEAVES)]
FORMS = [(c, file) for c in COMMANDS for file in FILES if not (c in COPYING and file != "config.json")]


@pytest.mark.parametrize(("command", "wrong"), CASES)
def test_a_wrong_config_is_one_line(place, capsys, command, wrong) -> None:
    path = place / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | WRONG[wrong]))
    refused(capsys, COMMANDS[command], place)


@pytest.mark.parametrize(("command", "file"), FORMS)
def test_a_file_of_another_form_is_one_line(place, capsys, command, file) -> None:
    (place / "model" / file).write_text(FILES[file])
    refused(capsys, COMMANDS[command], place)
