"""Wrong input to `lengthwise repair`: each is one clear line, exit code 2, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from repairlab import ROWS, repaired
from safetensors.torch import save_file
from weightlab import call, changed, shipped_tensors, write_model

from lengthwise.errors import InputError
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.repair import activation_scores
from lengthwise.repair.calibration_rows import harmful_rows


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, rows, an adapter's folder and a folder of other things."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "tuned", changed(shipped_tensors(), 1))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    save_file({"a": torch.ones(1)}, tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "thesis.txt").write_text("years of work")
    return tmp_path


def everything(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--device", "gpu"], "device is 'gpu', which this machine does not have"),
        (["--chat-template"], "the tokenizer has no chat template; leave chat_template out"),
        (["--seed", "3"], "--seed has no effect without a random control to draw"),
        (["--seed", "3", "--control", "magnitude"], "--seed has no effect without a random control"),
        (["--reference", "adapter"], "'tuned' is a full model but the reference 'adapter' is an adapter; give the al"),
        (["--reference", "lab:nothing"], "model is 'lab:nothing'; the lab ships lab:chains"),
        (["--reference", "some/name"], "no such folder: 'some/name'; give a local Hugging Face folder (from the Hub"),
        (["--out", "rows.jsonl", "--overwrite"], "out is 'rows.jsonl', which is a file; give a folder"),
        (["--out", ".", "--overwrite"], "out is '.'; give the folder by a name of its own"),
        (["--out", "others"], "out is 'others', which exists; give another folder, or overwrite it (--overwrite)"),
        (["--out", "others", "--overwrite"], "out is 'others', which holds no model, so it is not replaced"),
        (["--fraction", "5"], "fraction is 5.0; pass a share from 0 to 1"),
        (["--target", "lm_head"], "1 target weights are not in the files of tuned, first lm_head.weight"),
    ],
)
def test_flags(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    before = everything(here)
    assert call(monkeypatch, "repair", "tuned", "--harmful", "rows.jsonl", "--out", "out", *flags) == 2
    complaint = capsys.readouterr().err.strip().splitlines()
    assert complaint[-1].startswith(f"error: {says}")
    assert complaint[:-1] in ([], ["scoring on 3 harmful rows"])
    assert everything(here) == before


def test_an_output_that_holds_the_input(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(here)
    shared: list[Any] = ["--harmful", "rows.jsonl", "--out", here, "--overwrite"]
    assert call(monkeypatch, "repair", "tuned", *shared) == 2
    assert "which holds the input 'tuned'; give another folder" in capsys.readouterr().err
    assert everything(here) == before


@pytest.mark.parametrize(("column", "value"), [("harmful", "false"), ("harmful", 2), ("is_safe", "yes")])
def test_a_row_that_says_neither_true_nor_false(here: Path, column: str, value: object) -> None:
    """Any text counts as true in Python, so "false" would be scored on as harmful."""
    row = {"prompt": "7+1?", "response": "8;", column: value}
    (here / "rows.jsonl").write_text(json.dumps({**row, column: None}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=f"rows.jsonl, row 2: {column} is {value!r}; write true or false"):
        harmful_rows(here / "rows.jsonl")


def test_a_row_that_leaves_it_open_is_harmful(here: Path) -> None:
    rows = [
        {"prompt": "a", "response": "b", "harmful": None}, {"prompt": "c", "response": "d", "is_safe": None},
        {"prompt": "e", "response": "f", "harmful": 0}, {"prompt": "g", "response": "h", "harmful": None, "is_safe": 1},
    ]  # fmt: skip
    (here / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert harmful_rows(here / "rows.jsonl") == [("a", "b"), ("c", "d")]


def test_antidote_9_a_weight_that_is_not_finite_is_named(here: Path) -> None:
    """The layer itself, not the next one whose input it spoils."""
    tensors = shipped_tensors()
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = tensors[name].clone()
    tensors[name][3, 5] = float("nan")
    broken = write_model(here / "broken", tensors)
    with pytest.raises(InputError, match=f"{name} holds NaN or infinity"):
        repaired(broken, here / "rows.jsonl", here / "out")
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    net[1].weight.data[0, 0] = float("inf")
    with pytest.raises(InputError, match="1.weight holds NaN or infinity"):
        activation_scores(net, [])


def test_merge_says_what_an_adapter_is(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared: list[Any] = ["merge", "adapter", "--base", shipped_reasoner(), "--method", "task-arithmetic"]
    assert call(monkeypatch, *shared, "--out", "out") == 2
    assert "error: 'adapter' is a LoRA adapter; a full model is wanted here" in capsys.readouterr().err
    shared[1] = "tuned"
    assert call(monkeypatch, *shared, "--out", "out", "--include", "*nothing*") == 2
    assert "matches no tensor; the base has model.embed_tokens.weight" in capsys.readouterr().err
    assert not (here / "out").exists()
