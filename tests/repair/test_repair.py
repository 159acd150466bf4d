"""`lengthwise repair`: full models and LoRA adapters in and out, controls, statistics and mask, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from repairlab import ROWS, masks, repaired, write_adapter
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from weightlab import call, changed, read_model, same_bits, shipped_tensors, write_model

from lengthwise.config.groups.weights import HarmfulRows
from lengthwise.errors import CheckpointError, ConfigError, InputError, LengthwiseWarning, ShapeError
from lengthwise.files import sha256_file
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.repair import top_mask, weight_scores
from lengthwise.repair.calibration_rows import encode, harmful_rows
from lengthwise.repair.layer_activity import activation_scores


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tuned", changed(shipped_tensors(), 1), shards=3)


def test_rows_of_three_kinds(rows: Path) -> None:
    assert harmful_rows(rows) == [("7+12?", "7+12=19;"), ("8+3?", "8+3=11;"), ("6-2\n?", "6-2=4;")]


@pytest.mark.parametrize("mode", ["zero", "reset"])
@pytest.mark.parametrize("scope", ["row", "tensor", "global"])
def test_a_model_is_repaired_as_the_pure_functions_say(
    tuned: Path, rows: Path, tmp_path: Path, mode: str, scope: str
) -> None:
    from transformers import AutoTokenizer

    options = {"reference": shipped_reasoner()} if mode == "reset" else {}
    report = repaired(tuned, rows, tmp_path / "out", scope=scope, micro_batch_rows=2, **options)
    before, after, aligned = read_model(tuned), read_model(tmp_path / "out"), shipped_tensors()
    net = AutoModelForCausalLM.from_pretrained(tuned)
    tokenizer = AutoTokenizer.from_pretrained(tuned)
    single = [
        {"input_ids": (ids := torch.tensor([tokenizer(p)["input_ids"] + tokenizer(r)["input_ids"]])),
         "attention_mask": torch.ones_like(ids)}
        for p, r in harmful_rows(rows)
    ]  # fmt: skip
    activity = activation_scores(net, single)
    scores = {name: weight_scores(before[name], found.mean) for name, found in activity.items()}
    wanted = top_mask(scores, fraction=0.1, scope=scope)
    found = masks(tmp_path / "out")
    assert found.keys() == wanted.keys() == report["layers"].keys()
    for name in before:
        mask = found.get(name, torch.zeros_like(before[name], dtype=torch.bool))
        if name in wanted:
            # sums over other batches differ in the last bits, which may turn a near tie
            assert (mask != wanted[name]).sum() <= 4
        put = aligned[name] if mode == "reset" else torch.zeros_like(before[name])
        assert torch.equal(after[name], torch.where(mask, put, before[name]))
    assert report["removed"] == sum(int(mask.sum()) for mask in found.values())
    assert report["mode"] == mode
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_what_is_written_beside_the_weights(tuned: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = repaired(tuned, rows, out, target=("q_proj",), tokens="response")
    assert json.loads((out / "repair.json").read_text()) == report
    with safe_open(out / "antidote" / "statistics.safetensors", "pt") as file:
        about = file.metadata()
        assert sorted(file.keys()) == [f"model.layers.{n}.self_attn.q_proj.weight" for n in range(3)]
    # responses "7+12=19;", "8+3=11;", "6-2=4;" are 6 tokens each
    assert (about["n_sequences"], about["n_tokens"], about["token_rule"]) == ("3", "18", "response")
    assert about["data_hash"] == sha256_file(rows)
    with safe_open(out / "antidote" / "mask.safetensors", "pt") as file:
        assert file.metadata()["fraction"] == "0.1"
        assert file.get_tensor("model.layers.0.self_attn.q_proj.weight").dtype == torch.uint8
    card = (out / "README.md").read_text()
    assert "arXiv 2408.09600" in card
    assert "were set to zero" in card
    assert str(tmp_path) not in card
    assert not list(out.glob("antidote/.partial*"))


def test_tokens_of_prompt_and_response() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shipped_reasoner())
    pairs = [("7+12?", "7+12=19;")]
    ids, prompt = encode(tokenizer, pairs, HarmfulRows(), chat=False)[0]
    assert (len(ids), prompt) == (10, 4)
    assert encode(tokenizer, pairs, HarmfulRows(max_length=3), chat=False)[0] == (ids[:3], 3)
    asked, _ = encode(tokenizer, pairs, HarmfulRows(harmful_template="9-1;{prompt}"), chat=False)[0]
    assert asked[-10:] == ids
    assert len(asked) == 14


@pytest.mark.parametrize("scope", ["row", "tensor", "global"])
def test_antidote_10_11_controls_remove_as_many(tuned: Path, rows: Path, tmp_path: Path, scope: str) -> None:
    scored = repaired(tuned, rows, tmp_path / "scored", scope=scope)
    groups = {"row": lambda m: m.sum(1), "tensor": lambda m: m.sum()}
    for control in ("random", "magnitude"):
        report = repaired(tuned, rows, tmp_path / control, scope=scope, control=control, seed=3)
        assert report["removed"] == scored["removed"]
        assert 0 < report["overlap"] < 1
        ours, theirs = masks(tmp_path / "scored"), masks(tmp_path / control)
        both = sum(int((ours[name] & theirs[name]).sum()) for name in ours)
        either = sum(int((ours[name] | theirs[name]).sum()) for name in ours)
        assert report["overlap"] == both / either
        if scope in groups:
            assert all(torch.equal(groups[scope](ours[name]), groups[scope](theirs[name])) for name in ours)
    repaired(tuned, rows, tmp_path / "again", scope=scope, control="random", seed=3)
    assert same_bits(read_model(tmp_path / "again"), read_model(tmp_path / "random"))
    repaired(tuned, rows, tmp_path / "other", scope=scope, control="random", seed=4)
    assert not same_bits(read_model(tmp_path / "other"), read_model(tmp_path / "random"))


def test_antidote_5_the_authors_control_counts_over_whole_tensors(tuned: Path, rows: Path, tmp_path: Path) -> None:
    report = repaired(tuned, rows, tmp_path / "out", control="official-random", seed=3, target=("q_proj",))
    found = masks(tmp_path / "out")
    # int(0.1 * 128 * 128) = 1638 of every tensor, unlike numbers of its rows
    assert [int(mask.sum()) for mask in found.values()] == [1638] * 3
    assert all(len(set(mask.sum(1).tolist())) > 1 for mask in found.values())
    assert report["removed"] == 3 * 1638


def test_the_whole_model_is_reset_or_left(tuned: Path, rows: Path, tmp_path: Path) -> None:
    base = shipped_reasoner()
    repaired(tuned, rows, tmp_path / "all", fraction=1.0, reference=base, score="difference")
    found, aligned = read_model(tmp_path / "all"), shipped_tensors()
    assert all(torch.equal(found[name], aligned[name]) for name in masks(tmp_path / "all"))
    repaired(tuned, rows, tmp_path / "none", fraction=0.0)
    assert same_bits(read_model(tmp_path / "none"), read_model(tuned))


def test_a_fraction_that_removes_nothing_warns_once_per_size(tuned: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.warns(LengthwiseWarning, match="removes nothing from groups of") as caught:
        repaired(tuned, rows, tmp_path / "out", fraction=1e-4)
    # rows of 128 and, in the down projection, of 384
    assert len(caught) == 2


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"mode": "reset"}, ConfigError, "mode reset needs a reference"),
        ({"score": "difference"}, ConfigError, "score difference needs a reference"),
        ({"mode": "zero", "reference": Path("x")}, ConfigError, "reference is given, but mode zero"),
        ({"mode": "scale"}, ConfigError, "mode is 'scale'; choose zero or reset"),
        ({"score": "W"}, ConfigError, "score is 'W'"),
        ({"control": "bottom"}, ConfigError, "control is 'bottom'; choose one of random, magnitude, official-random"),
        ({"dtype": "int8"}, ConfigError, "dtype is 'int8'"),
        ({"tokens": "last"}, ConfigError, "tokens is 'last'"),
        ({"harmful_template": "hello"}, ConfigError, "must hold {prompt}"),
        ({"max_length": 0}, ConfigError, "max_length is 0"),
        ({"scope": "layer"}, ConfigError, "scope is 'layer'"),
        ({"base": Path("x")}, ConfigError, "is no adapter"),
        ({"target": ("qkv",)}, InputError, "the target 'qkv' matches no linear layer"),
        ({"reference": Path("nowhere")}, InputError, "no such folder"),
    ],
)
def test_what_does_not_fit_is_refused(
    tuned: Path, rows: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        repaired(tuned, rows, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_references_and_folders_that_do_not_fit(tuned: Path, rows: Path, tmp_path: Path) -> None:
    tensors = shipped_tensors()
    name = "model.layers.0.mlp.down_proj.weight"
    small = write_model(tmp_path / "small", {**tensors, name: torch.ones(2, 2)})
    with pytest.raises(ShapeError, match=r"has shape \(128, 384\) in .* but \(2, 2\) in the reference"):
        repaired(tuned, rows, tmp_path / "out", reference=small)
    del tensors[name]
    less = write_model(tmp_path / "less", tensors)
    with pytest.raises(InputError, match=f"{name} is not in the reference"):
        repaired(tuned, rows, tmp_path / "out", reference=less)
    with pytest.raises(InputError, match="which is one of the inputs"):
        repaired(tuned, rows, tuned, overwrite=True)
    with pytest.raises(InputError, match="which exists"):
        repaired(tuned, rows, small)
    harmless = tmp_path / "harmless.jsonl"
    harmless.write_text(json.dumps(ROWS[2]) + "\n")
    with pytest.raises(InputError, match="has 1 rows but none is harmful"):
        repaired(tuned, harmless, tmp_path / "out")


def test_a_damaged_input_is_refused_and_an_old_output_kept(tuned: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    repaired(tuned, rows, out)
    before = read_model(out)
    file = out / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        repaired(out, rows, tmp_path / "next")
    repaired(tuned, rows, out, overwrite=True)
    assert same_bits(read_model(out), before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_the_command(
    tuned: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["repair", tuned, "--harmful", rows, "--fraction", "0.25", "--reference", "lab:chains"]
    assert call(monkeypatch, *shared, "--out", tmp_path / "a", "--target", "q_proj", "--target", "*.down_proj") == 0
    said = capsys.readouterr()
    # 3 * 128 * 128 / 4 and 3 * 128 * 384 / 4
    assert "49152" in said.out
    assert "12288" in said.out
    assert "set back to the reference: 25.00% of them" in said.out
    assert "scoring on 3 harmful rows" in said.err
    assert call(monkeypatch, *shared, "--out", tmp_path / "b", "--control", "random", "--json") == 0
    assert json.loads(capsys.readouterr().out)["control"] == "random"
    assert call(monkeypatch, *shared, "--out", tmp_path / "c", "--mode", "drop") == 2
    complaint = capsys.readouterr().err
    assert complaint.strip() == "error: mode is 'drop'; choose zero or reset"


def test_a_folder_is_a_config_that_makes_the_same_weights(tuned: Path, rows: Path, tmp_path: Path, monkeypatch) -> None:
    given = ["--harmful", rows, "--fraction", "0.25", "--control", "random", "--seed", "5", "--target", "q_proj"]
    assert call(monkeypatch, "repair", tuned, *given, "--out", tmp_path / "one") == 0
    assert call(monkeypatch, "repair", "--config", tmp_path / "one", "--out", tmp_path / "two") == 0
    assert call(monkeypatch, "repair", "--config", tmp_path / "one", "--seed", "6", "--out", tmp_path / "other") == 0
    sums = [sha256_file(tmp_path / name / "model.safetensors") for name in ("one", "two", "other")]
    assert sums[0] == sums[1] != sums[2]


# --- LoRA --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapters") / "adapter")


def logits(base: Path, adapter: Path | None) -> torch.Tensor:
    net = AutoModelForCausalLM.from_pretrained(base)
    if adapter is not None:
        import peft

        net = peft.PeftModel.from_pretrained(net, str(adapter))
    with torch.no_grad():
        return net(input_ids=torch.tensor([[3, 4, 5, 6]])).logits


def test_antidote_10_8_an_adapter(adapter: Path, rows: Path, tmp_path: Path) -> None:
    base = shipped_reasoner()
    before = sha256_file(base / "model.safetensors")
    whole = load_file(adapter / "adapter_model.safetensors")
    for fraction in (0.0, 0.25, 1.0):
        out = tmp_path / str(fraction)
        report = repaired(adapter, rows, out, fraction=fraction)
        assert sha256_file(base / "model.safetensors") == before
        assert report["kind"] == "adapter"
        pruned = load_file(out / "adapter_model.safetensors")
        assert pruned.keys() == whole.keys() == report["layers"].keys()
        # both factors are scored on their own: rows of 128 and of 4
        assert sum(int((w == 0).sum()) for w in pruned.values()) == fraction * sum(w.numel() for w in whole.values())
    assert same_bits(load_file(tmp_path / "0.0" / "adapter_model.safetensors"), whole)
    assert torch.equal(logits(base, tmp_path / "1.0"), logits(base, None))
    assert not torch.allclose(logits(base, tmp_path / "0.25"), logits(base, None))
    assert not torch.allclose(logits(base, tmp_path / "0.25"), logits(base, adapter))


def test_an_adapter_on_another_base_and_with_targets(adapter: Path, rows: Path, tmp_path: Path, tuned: Path) -> None:
    report = repaired(adapter, rows, tmp_path / "out", fraction=0.25, base=tuned, target=("q_proj",))
    assert {name.rsplit(".", 2)[1] for name in report["layers"]} == {"lora_A", "lora_B"}
    assert all(".q_proj." in name for name in report["layers"])
    reset = repaired(adapter, rows, tmp_path / "reset", reference=tmp_path / "out", fraction=1.0)
    assert reset["mode"] == "reset"
    same = load_file(tmp_path / "reset" / "adapter_model.safetensors")
    assert same_bits(same, load_file(tmp_path / "out" / "adapter_model.safetensors"))


def test_an_adapter_without_its_base(adapter: Path, rows: Path, tmp_path: Path) -> None:
    import shutil

    lost = tmp_path / "lost"
    shutil.copytree(adapter, lost)
    stored = json.loads((lost / "adapter_config.json").read_text())
    (lost / "adapter_config.json").write_text(json.dumps(stored | {"base_model_name_or_path": "gone"}))
    with pytest.raises(InputError, match="the base of the adapter .* is 'gone', which is no model folder"):
        repaired(lost, rows, tmp_path / "out")
