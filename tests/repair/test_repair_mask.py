"""`lengthwise repair --mask`: a saved mask on a model or an adapter, without rows; spec page antidote, section 6."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from repairlab import ROWS, masks, repaired, write_adapter
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from weightlab import call, changed, read_model, shipped_tensors, write_model

from lengthwise.config.commands import RepairSettings
from lengthwise.errors import ConfigError, InputError, LengthwiseError, ShapeError
from lengthwise.files import sha256_file
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.repair import apply_mask

QUERY = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tuned model in shards, harmful rows, and two runs whose masks were saved: set to zero, and set back."""
    root = tmp_path_factory.mktemp("mask")
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tuned = write_model(root / "tuned", changed(shipped_tensors(), 1), shards=3)
    repaired(tuned, root / "rows.jsonl", root / "zero", scope="global", control="random", seed=5)
    repaired(tuned, root / "rows.jsonl", root / "reset", reference=shipped_reasoner(), target=("q_proj",))
    return {"root": root, "tuned": tuned, "rows": root / "rows.jsonl"}


def masked(model: Path, mask: Path, out: Path, reference: Path | None = None, **options: object) -> dict[str, Any]:
    """The report of a saved mask, as ``repair.json`` has it."""
    named = {"model": str(model), "reference": None if reference is None else str(reference), "mask": mask, "out": out}
    return apply_mask(RepairSettings.from_dict({**named, **options})).to_dict()


def saved(folder: Path) -> Path:
    return folder / "antidote" / "mask.safetensors"


@pytest.mark.parametrize("mode", ["zero", "reset"])
def test_antidote_6_a_saved_mask_gives_the_run_again_bit_for_bit(
    made: dict[str, Path], tmp_path: Path, mode: str
) -> None:
    run = made["root"] / mode
    reference = shipped_reasoner() if mode == "reset" else None
    report = masked(model=made["tuned"], mask=saved(run), out=tmp_path / "out", reference=reference)
    assert sha256_file(tmp_path / "out" / "model.safetensors") == sha256_file(run / "model.safetensors")
    before = json.loads((run / "repair.json").read_text())
    for name in ("mode", "entries", "removed", "fraction", "share_of_model", "reference", "kind"):
        assert report[name] == before[name]
    assert {n: row["removed"] for n, row in report["layers"].items()} == {
        n: row["removed"] for n, row in before["layers"].items()
    }


def test_what_a_mask_leaves_beside_the_weights(made: dict[str, Path], tmp_path: Path) -> None:
    out, mask = tmp_path / "out", saved(made["root"] / "zero")
    report = masked(model=made["tuned"], mask=mask, out=out)
    assert report == json.loads((out / "repair.json").read_text())
    assert report["mask"]["sha256"] == sha256_file(mask) == sha256_file(saved(out))
    about = {"fraction": "0.1", "rule": "nearest", "scope": "global", "score": "random", "seed": "5"}
    assert report["mask"]["metadata"] == about
    assert "calibration" not in report
    card = (out / "README.md").read_text()
    assert '"scope": "global"' in card
    assert "made by another run" in card
    assert str(tmp_path) not in card
    assert not (out / "antidote" / "statistics.safetensors").exists()
    # a second time changes nothing: what is taken out is taken out
    masked(model=out, mask=saved(out), out=tmp_path / "twice")
    assert sha256_file(tmp_path / "twice" / "model.safetensors") == sha256_file(out / "model.safetensors")
    # the mask may lie in the folder that is replaced
    masked(model=made["tuned"], mask=saved(out), out=out, overwrite=True)
    assert sha256_file(saved(out)) == sha256_file(mask)


def test_a_mask_on_another_model_and_in_another_mode(made: dict[str, Path], tmp_path: Path) -> None:
    """Only names and shapes must fit: a mask of one run may be tried on another fine-tuned model."""
    other = write_model(tmp_path / "other", changed(shipped_tensors(), 2))
    masked(model=other, mask=saved(made["root"] / "zero"), out=tmp_path / "out", reference=made["tuned"])
    before, after, aligned = read_model(other), read_model(tmp_path / "out"), read_model(made["tuned"])
    found = masks(tmp_path / "out")
    assert set(found) < set(before)
    for name in before:
        mask = found.get(name, torch.zeros_like(before[name], dtype=torch.bool))
        assert torch.equal(after[name], torch.where(mask, aligned[name], before[name]))


def test_a_mask_on_an_adapter_needs_no_base(made: dict[str, Path], tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    repaired(adapter, made["rows"], tmp_path / "run", fraction=0.25)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "gone"}))
    report = masked(model=adapter, mask=saved(tmp_path / "run"), out=tmp_path / "out")
    assert report["kind"] == "adapter"
    files = [tmp_path / name / "adapter_model.safetensors" for name in ("run", "out")]
    assert sha256_file(files[0]) == sha256_file(files[1])
    with pytest.raises(InputError, match=r"12 of 12 weights of the mask .* are not in .*tuned, first base_"):
        masked(model=made["tuned"], mask=saved(tmp_path / "run"), out=tmp_path / "none")


def written(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, path)
    return path


def bad_mask(kind: str, root: Path) -> Path:
    ones, path = torch.ones(128, 128, dtype=torch.uint8), root / "bad.safetensors"
    if kind == "nowhere":
        return path
    if kind == "folder":
        return root
    if kind in ("text", "cut"):
        whole = written(path, {QUERY: ones}).read_bytes()
        path.write_bytes(b"0101 is no mask" if kind == "text" else whole[:-5])
        return path
    tensors: dict[str, dict[str, torch.Tensor]] = {
        "names": {QUERY: ones, "model.layers.9.self_attn.q_proj.weight": ones.clone()},
        "shape": {QUERY: ones[:64].clone()},
        "transposed": {"model.layers.0.mlp.up_proj.weight": torch.ones(128, 384, dtype=torch.uint8)},
        "value": {QUERY: ones.clone().fill_diagonal_(2)},
        "float": {QUERY: ones.float()},
        "bool": {QUERY: ones.bool()},
        "empty": {},
    }
    return written(path, tensors[kind])


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        ("nowhere", InputError, r"no mask file at .*give the antidote/mask.safetensors of a repaired folder"),
        ("folder", InputError, r"no mask file at"),
        ("text", InputError, "bad.safetensors.* is no mask: no whole safetensors file; give the antidote/mask"),
        ("cut", InputError, "is no mask: no whole safetensors file"),
        ("names", InputError, r"1 of 2 weights of the mask .* are not in .*tuned, first model.layers.9"),
        ("shape", ShapeError, r"has shape \(64, 128\) in the mask .* but \(128, 128\) in .*tuned"),
        ("transposed", ShapeError, r"has shape \(128, 384\) in the mask .* but \(384, 128\)"),
        ("value", InputError, "q_proj.weight in the mask .* holds 2; a mask is 1 where a weight goes, else 0"),
        ("float", InputError, "is no mask: .*q_proj.weight is F32; a mask holds U8"),
        ("bool", InputError, "is no mask: .*q_proj.weight is BOOL"),
        ("empty", InputError, "is no mask: it has no tensor"),
    ],
)
def test_antidote_6_an_unlike_mask_is_refused_and_nothing_is_written(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    kind: str, error: type[LengthwiseError], says: str,
) -> None:  # fmt: skip
    (tmp_path / "in").mkdir()
    mask, out = bad_mask(kind, tmp_path / "in"), tmp_path / "out"
    with pytest.raises(error, match=says):
        masked(model=made["tuned"], mask=mask, out=out)
    assert call(monkeypatch, "repair", made["tuned"], "--mask", mask, "--out", out) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ")
    assert "\n" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_masks_of_weights_that_no_mask_fits(made: dict[str, Path], tmp_path: Path) -> None:
    tensors = shipped_tensors()
    whole = write_model(tmp_path / "quantised", {**tensors, QUERY: torch.ones(128, 128, dtype=torch.int8)})
    mask = written(tmp_path / "mask.safetensors", {QUERY: torch.ones(128, 128, dtype=torch.uint8)})
    with pytest.raises(InputError, match="is quantised in .*quantised; its values cannot be set exactly"):
        masked(model=whole, mask=mask, out=tmp_path / "out")
    del tensors[QUERY]
    less = write_model(tmp_path / "less", tensors)
    with pytest.raises(InputError, match=f"{QUERY} is not in the reference"):
        masked(model=made["tuned"], mask=mask, out=tmp_path / "out", reference=less)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "reset"}, "mode reset needs a reference"),
        ({"mode": "zero", "reference": Path("x")}, "reference is given, but mode zero does not use it"),
        ({"mode": "scale"}, "mode is 'scale'; choose zero or reset"),
    ],
)
def test_modes_of_a_mask(made: dict[str, Path], tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        masked(model=made["tuned"], mask=saved(made["root"] / "zero"), out=tmp_path / "out", **options)


def test_a_mask_of_ones_own_needs_no_metadata(made: dict[str, Path], tmp_path: Path) -> None:
    ours = torch.zeros(128, 128, dtype=torch.uint8)
    ours[3, 5] = 1
    mask = written(tmp_path / "own.safetensors", {QUERY: ours})
    report = masked(model=made["tuned"], mask=mask, out=tmp_path / "out")
    assert (report["removed"], report["entries"], report["mask"]["metadata"]) == (1, 128 * 128, {})
    assert (read_model(tmp_path / "out")[QUERY] != read_model(made["tuned"])[QUERY]).nonzero().tolist() == [[3, 5]]


def test_the_command_with_a_mask(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["repair", made["tuned"], "--mask", saved(made["root"] / "reset")]
    assert call(monkeypatch, *shared, "--reference", "lab:chains", "--out", tmp_path / "a") == 0
    said = capsys.readouterr()
    # 13 of each row of 128: floor(.1 * 128 + .5), three layers
    assert f"{3 * 128 * 13} of {3 * 128 * 128} target weights set back to the reference" in said.out
    assert "rows without score" not in said.out
    assert "applying the mask of 3 weights" in said.err
    assert load_file(tmp_path / "a" / "model.safetensors").keys() == read_model(made["tuned"]).keys()
    with safe_open(saved(tmp_path / "a"), "pt") as file:
        assert file.metadata()["score"] == "weight"
    assert call(monkeypatch, *shared, "--out", tmp_path / "b", "--json") == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "zero"


@pytest.mark.parametrize(
    "flags",
    [
        ["--harmful", "rows.jsonl"], ["--fraction", "0"], ["--scope", "row"], ["--control", "random"], ["--seed", "0"],
        ["--rounding", "nearest"], ["--score", "difference"], ["--target", "q_proj"], ["--tokens", "all"],
        ["--base", "lab:chains"], ["--chat-template"], ["--device", "cpu"], ["--dtype", "auto"], ["--threads", "1"],
        ["--judge", "flag:x", "--data", "rows.jsonl"], ["--judge-threshold", "0"], ["--cap", "9"],
    ],
)  # fmt: skip
def test_a_mask_excludes_every_way_to_choose(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    flags: list[str],
) -> None:  # fmt: skip
    shared = ["repair", made["tuned"], "--mask", saved(made["root"] / "zero"), "--out", tmp_path / "out"]
    assert call(monkeypatch, *shared, *flags) == 2
    said = capsys.readouterr().err
    why = "beside --mask, which says already which weights go; leave it out, or change that"
    assert said.strip() == f"error: {flags[0]} has no effect {why}"
    assert list(tmp_path.iterdir()) == []


def test_neither_rows_nor_a_mask(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "repair", made["tuned"], "--out", tmp_path / "out") == 2
    assert "no rows to score on; give --harmful, or --mask" in capsys.readouterr().err
