"""`lengthwise merge`: findings are listed, bad input is one line and exit code 2, the result is an ordinary folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from weightlab import call, changed, read_model, shipped_tensors, write_model

from lengthwise.files import sha256_file
from lengthwise.lab.reasoner import shipped_reasoner


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tuned", changed(shipped_tensors(), 1))


def test_a_merge_prints_its_layers(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(monkeypatch, "merge", tuned, "--base", "lab:chains", "--method", "update-selective", "--out", out) == 0
    printed = capsys.readouterr().out
    assert "layers.2" in printed
    assert "all" in printed
    assert str(out) in printed
    base, merged = read_model(shipped_reasoner()), read_model(out)
    moved = sum(int((base[name] != merged[name]).sum()) for name in base)
    assert moved == 605_440 // 4


def test_json_is_one_object(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--method", "slerp", "--t", "0.5", "--json", "--shard-mb", 1]
    assert call(monkeypatch, "merge", "lab:chains", tuned, "--out", tmp_path / "out", *options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["method"] == "slerp"
    assert report["options"]["t"] == 0.5
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 3


def test_a_folder_is_a_config_that_makes_the_same_weights(tuned: Path, tmp_path: Path, monkeypatch) -> None:
    given = ["--base", "lab:chains", "--method", "dare", "--density", "0.3", "--seed", "7", "--exclude", "*norm*"]
    assert call(monkeypatch, "merge", tuned, *given, "--out", tmp_path / "one") == 0
    assert call(monkeypatch, "merge", "--config", tmp_path / "one", "--out", tmp_path / "two") == 0
    assert call(monkeypatch, "merge", "--config", tmp_path / "one", "--seed", "8", "--out", tmp_path / "other") == 0
    sums = [sha256_file(tmp_path / name / "model.safetensors") for name in ("one", "two", "other")]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_dry_run_writes_nothing(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    options = ["--method", "linear", "--dry-run", *(["--json"] if as_json else [])]
    assert call(monkeypatch, "merge", "lab:chains", tuned, "--out", tmp_path / "out", *options) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["tensors"] == 38 if as_json else "38 of 38 tensors" in printed
    assert list(tmp_path.iterdir()) == []
    if not as_json:
        # `changed` adds noise of 0.01 to 605,440 numbers: a norm of 0.01 * sqrt(605440) = 7.781
        (row,) = [line.split() for line in printed.splitlines() if line.startswith("all ")]
        assert float(row[2]) == pytest.approx(7.781, rel=0.01)
        assert row[4] == "0.00%"
        return
    # the merge itself says the same
    assert call(monkeypatch, "merge", "lab:chains", tuned, "--out", tmp_path / "out", *options[:2], "--json") == 0
    merged, changes = json.loads(capsys.readouterr().out), json.loads(printed)["changes"]
    assert changes == {name: merged[name] for name in ("base", "models", "total", "layers")} | {
        "total": merged["total"] | {"moved": 0.0, "lost": None},
        "layers": {name: row | {"moved": 0.0, "lost": None} for name, row in merged["layers"].items()},
    }


def test_every_finding_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = shipped_tensors()
    tensors["model.norm.weight"] = torch.ones(5)
    other = write_model(tmp_path / "other", tensors, config={"rms_norm_eps": 1.0, "bos_token_id": 7})
    arguments = ["merge", other, "--base", "lab:chains", "--method", "update-selective", "--out", tmp_path / "out"]
    assert call(monkeypatch, *arguments, "--dry-run") == 2
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("found: ") for line in said) == 2
    assert said[-1] == "error: 2 things do not fit, each named above; nothing was written"
    assert any(line.startswith("warning: bos_token_id is None") for line in said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "tise"], "method is 'tise'"),
        (["--method", "ties", "--base", "lab:chains"], "ties needs density"),
        (["--method", "linear", "--density", "0.5"], "density is no option of linear"),
        (["--method", "linear", "--base", "lab:chains"], "linear takes no base"),
        (["--method", "task-arithmetic"], "task-arithmetic needs a base"),
        (["--method", "linear", "--weights", "1;2"], "give numbers with commas"),
        (["--method", "linear", "--weights", "1,2"], "weights has 2 numbers for 1 models"),
        (["--method", "linear", "--include", "x*"], "the pattern 'x*' matches no tensor"),
        (["--method", "linear", "--head", "keep"], "head is 'keep'"),
        (["--method", "linear", "--out-dtype", "int8"], "out_dtype is 'int8'"),
        (["--method", "slerp", "--t", "2"], "slerp got 1 models"),
    ],
)
def test_bad_input_is_one_line(
    tuned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    says: str,
) -> None:
    assert call(monkeypatch, "merge", tuned, "--out", tmp_path / "out", *options) == 2
    complaint = capsys.readouterr().err
    assert says in complaint
    assert len(complaint.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno

    from lengthwise.safetensors_io.writer import ShardWriter

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "_write_and_sum", full)
    assert call(monkeypatch, "merge", tuned, "--method", "linear", "--out", tmp_path / "out") == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: no space left while writing")
    assert len(complaint.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_merging_needs_no_torch() -> None:
    import subprocess

    code = "import sys, lengthwise.merging.folder_merge; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
