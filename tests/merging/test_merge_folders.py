"""Merging folders: the same bits as in memory, a preflight that names everything, an output that loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from weightlab import Tensors, changed, read_model, same_bits, shipped_tensors, write_model

from lengthwise.config.commands import MergeSettings
from lengthwise.errors import CheckpointError, ConfigError, InputError
from lengthwise.files import PARTIAL, sha256_file
from lengthwise.merging.folder_merge import merge_folders
from lengthwise.merging.in_memory import merge_in_memory
from lengthwise.merging.merge_methods import METHODS as KNOWN
from lengthwise.merging.merge_methods import build_merge
from lengthwise.merging.merge_plan import preflight, summary_lines

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
METHODS: dict[str, dict[str, Any]] = {
    "linear": {"weights": (0.5, 0.2, 0.3)},
    "task-arithmetic": {"weights": (0.4, -0.3), "scale": 0.7},
    "ties": {"density": 0.4, "weights": (0.4, 0.7)},
    "ties-authors": {"density": 0.4},
    "dare": {"density": 0.4, "seed": 9, "rescale": "l1"},
    "slerp": {"t": 0.3},
    "update-selective": {},
}
KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.fixture(scope="module")
def models() -> list[Tensors]:
    base = shipped_tensors()
    return [base, changed(base, 1), changed(base, 2)]


@pytest.fixture(scope="module")
def folders(models: list[Tensors], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Base and two models, in each format; the base in two shards, one model in five."""
    root = tmp_path_factory.mktemp("models")
    return {
        kind: [
            write_model(root / kind / str(n), {k: w.to(dtype) for k, w in m.items()}, shards=(2, 5, 1)[n])
            for n, m in enumerate(models)
        ]
        for kind, dtype in KINDS.items()
    }


def job(folders: list[Path], out: Path, name: str = "task-arithmetic", **options: Any) -> MergeSettings:
    """Settings of a merge of a base and as many models as the method takes."""
    base, *others = map(str, folders[:2] if name in ("slerp", "update-selective") else folders)
    parts = {"base": base, "models": others} if KNOWN[name].needs_base else {"models": [base, *others]}
    return MergeSettings.from_dict({"method": name, **METHODS[name], **parts, "out": out, **options})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
def test_merging_10_1_streamed_is_in_memory(
    folders: dict[str, list[Path]], models: list[Tensors], tmp_path: Path, name: str, kind: str
) -> None:
    asked = job(folders[kind], tmp_path / "out", name)
    merge_folders(asked, elements=10_000, shard_bytes=300_000)
    count = len(asked.models) + (asked.base is not None)
    given = [{n: w.to(KINDS[kind]) for n, w in model.items()} for model in models[:count]]
    wanted = merge_in_memory(build_merge(name, **METHODS[name]), given[0], given[1:])
    assert same_bits(read_model(tmp_path / "out"), wanted)


@pytest.mark.parametrize("elements", [1000, 65_536, 1 << 22])
@pytest.mark.parametrize("shard_bytes", [1, 10**9])
def test_merging_10_1_whatever_blocks_and_shards(
    folders: dict[str, list[Path]], models: list[Tensors], tmp_path: Path, elements: int, shard_bytes: int
) -> None:
    asked = job(folders["float32"], tmp_path / "out", "update-selective")
    merge_folders(asked, elements=elements, shard_bytes=shard_bytes)
    wanted = merge_in_memory(build_merge("update-selective"), models[0], models[1:2])
    assert same_bits(read_model(tmp_path / "out"), wanted)


def test_merging_10_8_names_sizes_and_loading(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    report = merge_folders(job(folders["bfloat16"], tmp_path / "out"), shard_bytes=400_000).to_dict()
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    base = read_model(folders["bfloat16"][0])
    assert index["weight_map"].keys() == base.keys()
    assert index["metadata"]["total_size"] == sum(2 * w.numel() for w in base.values())
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.isfinite(model(torch.tensor([[3, 4, 5]])).logits).all()
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("7+12?")["input_ids"]
    assert sum(row["entries"] for row in report["layers"].values()) == report["total"]["entries"] == 605_440


def test_merging_10_10_inputs_are_left_alone(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    def sums() -> dict[Path, str]:
        return {file: sha256_file(file) for folder in folders["float32"] for file in folder.iterdir()}

    before = sums()
    merge_folders(job(folders["float32"], tmp_path / "out", "ties"))
    assert sums() == before


def test_the_card_says_what_made_it(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    merge_folders(job(folders["float32"], tmp_path / "out", "ties", exclude=("*norm*",)))
    card = (tmp_path / "out" / "README.md").read_text()
    for part in (
        "library_name: transformers", "--method ties", "arXiv 2306.01708", "| density | `0.4` |", "| base | 0 |",
        "| weights | `[0.4, 0.7]` |", "| model 2 | 2", '| exclude | `["*norm*"]` |',
    ):  # fmt: skip
        assert part in card
    assert str(tmp_path) not in card


# --- statistics --------------------------------------------------------------------------------------------------


def test_statistics_against_plain_arithmetic(
    folders: dict[str, list[Path]], models: list[Tensors], tmp_path: Path
) -> None:
    report = merge_folders(job(folders["float32"], tmp_path / "out", "ties"), elements=5000).to_dict()
    name = "model.layers.1.mlp.up_proj.weight"
    changes = [model[name].double() - models[0][name].double() for model in models[1:]]
    row = report["tensors"][name]
    size = changes[0].numel()
    for found, change in zip(row["models"], changes, strict=True):
        largest = change.abs().flatten().topk(int(0.4 * size)).values
        assert found["norm"] == pytest.approx(change.norm().item(), rel=1e-4)
        assert found["relative"] == pytest.approx((change.norm() / models[0][name].norm()).item(), rel=1e-4)
        assert found["zeros"] == (change == 0).double().mean().item()
        assert found["kept"] == int(0.4 * size) / size
        assert found["kept_energy"] == pytest.approx((largest.square().sum() / change.square().sum()).item(), rel=1e-4)
    cosine = torch.nn.functional.cosine_similarity(changes[0].flatten(), changes[1].flatten(), dim=0)
    assert row["cosines"][0] == pytest.approx(cosine.item(), abs=1e-4)
    layer = report["layers"]["layers.1"]
    squares = sum(
        (models[1][n].double() - w.double()).square().sum().item() for n, w in models[0].items() if "layers.1." in n
    )
    assert layer["models"][0]["norm"] == pytest.approx(squares**0.5, rel=1e-4)


def test_small_updates_that_rounding_undoes_are_reported(tmp_path: Path) -> None:
    # bfloat16 near 1 has steps of 2^-7: a change of 2^-7, scaled by .3, is rounded away
    config = {"num_hidden_layers": 0}
    base = write_model(tmp_path / "a", {"w": torch.ones(8).bfloat16()}, config=config)
    tuned = write_model(tmp_path / "b", {"w": torch.full((8,), 1 + 2**-7).bfloat16()}, config=config)
    report = merge_folders(job([base, tuned], tmp_path / "out", "update-selective", density=1.0, scale=0.3)).to_dict()
    assert report["total"]["moved"] == 1
    assert report["total"]["lost"] == 1
    assert any("undoes 100%" in note for note in report["notes"])


def test_no_difference_is_said(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    base, first, _ = folders["float32"]
    twin = tmp_path / "twin"
    shutil.copytree(base, twin)
    report = merge_folders(job([base, twin, twin], tmp_path / "out")).to_dict()
    assert "no difference: every model equals the base in all merged tensors" in report["notes"]
    assert same_bits(read_model(tmp_path / "out"), read_model(base))
    report = merge_folders(job([base, first, twin], tmp_path / "other")).to_dict()
    assert "no difference between twin and the base in all merged tensors" in report["notes"]


def test_tensors_that_a_global_cut_leaves_out_are_listed(tmp_path: Path) -> None:
    base = {"a": torch.zeros(4), "b": torch.zeros(4)}
    tuned = {"a": torch.full((4,), 9.0), "b": torch.ones(4)}
    paths = [write_model(tmp_path / n, m) for n, m in (("x", base), ("y", tuned))]
    report = merge_folders(job(paths, tmp_path / "out", "update-selective")).to_dict()
    assert report["tensors"]["b"]["models"][0]["kept"] == 0
    assert "nothing was kept in 1 of 2 tensors, first b" in report["notes"]


# --- what is chosen, formats, heads ------------------------------------------------------------------------------


def test_patterns_choose_tensors(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    asked = job(folders["float32"], tmp_path / "out", include=("*mlp*", "*norm*"), exclude=("*layers.0.*",))
    report = merge_folders(asked).to_dict()
    base, merged = read_model(folders["float32"][0]), read_model(tmp_path / "out")
    moved = {name for name in base if not torch.equal(base[name], merged[name])}
    assert (
        moved == {n for n in base if ("mlp" in n or "norm" in n) and "layers.0." not in n} == report["tensors"].keys()
    )


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_merging_9_a_pattern_that_matches_nothing(folders: dict[str, list[Path]], tmp_path: Path, option: str) -> None:
    plan = preflight(job(folders["float32"], tmp_path / "out", **{option: ("*nonsense*",)}))
    assert "the pattern '*nonsense*' matches no tensor" in plan.errors[0]
    plan = preflight(job(folders["float32"], tmp_path / "out", exclude=("*",)))
    assert "leave no tensor" in plan.errors[0]


def test_mixed_formats_only_if_asked(folders: dict[str, list[Path]], models: list[Tensors], tmp_path: Path) -> None:
    mixed = [folders["bfloat16"][0], folders["float32"][1], folders["float16"][2]]
    with pytest.raises(InputError, match=r"38 tensors \(.* and 33 more\) are torch\.bfloat16 in .* but torch\.float32"):
        merge_folders(job(mixed, tmp_path / "out"))
    merge_folders(job(mixed, tmp_path / "out", mixed_dtype=True))
    merged = read_model(tmp_path / "out")
    assert {w.dtype for w in merged.values()} == {torch.bfloat16}
    name = "model.layers.2.mlp.up_proj.weight"
    base, first, second = models[0][name].bfloat16().float(), models[1][name], models[2][name].half().float()
    wanted = base + 0.7 * (0.4 * (first - base) - 0.3 * (second - base))
    torch.testing.assert_close(merged[name], wanted.bfloat16())


def test_another_output_format(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    merge_folders(job(folders["float32"], tmp_path / "out", out_dtype="bfloat16"))
    assert {w.dtype for w in read_model(tmp_path / "out").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    with pytest.raises(ConfigError, match="out_dtype is 'int8'; choose one of float64"):
        preflight(job(folders["float32"], tmp_path / "other", out_dtype="int8"))


def with_head(tensors: Tensors, spread: float = 0.0) -> Tensors:
    return {**tensors, HEAD: tensors[EMBEDDING] + spread}


def test_a_head_that_only_some_models_have(models: list[Tensors], tmp_path: Path) -> None:
    base, first = models[:2]
    tied = write_model(tmp_path / "tied", base)
    own = write_model(tmp_path / "own", with_head(first, 0.5), config={"tie_word_embeddings": False})
    plan = preflight(job([tied, own], tmp_path / "out", "update-selective"))
    assert any("lm_head.weight is in" in error and "head=untie" in error for error in plan.errors)
    asked = job([tied, own], tmp_path / "out", "update-selective", head="untie", density=1.0, scale=1.0)
    merge_folders(asked)
    merged = read_model(tmp_path / "out")
    torch.testing.assert_close(merged[HEAD], first[EMBEDDING] + 0.5)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(model.lm_head.weight.data, merged[HEAD])
    with pytest.raises(InputError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        merge_folders(job([tied, own], tmp_path / "drop", "update-selective", head="drop"))


def test_heads_that_equal_the_embedding_can_be_dropped(models: list[Tensors], tmp_path: Path) -> None:
    paths = [write_model(tmp_path / str(n), with_head(model)) for n, model in enumerate(models[:2])]
    plan = preflight(job(paths, tmp_path / "out", "update-selective"))
    assert any("whose config ties it to the embedding" in error for error in plan.errors)
    merge_folders(job(paths, tmp_path / "out", "update-selective", head="drop"))
    assert HEAD not in read_model(tmp_path / "out")
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_untied_models_keep_their_heads(models: list[Tensors], tmp_path: Path) -> None:
    paths = [
        write_model(tmp_path / str(n), with_head(model, 0.1 * n), config={"tie_word_embeddings": False})
        for n, model in enumerate(models[:2])
    ]
    merge_folders(job(paths, tmp_path / "out", "update-selective"))
    assert HEAD in read_model(tmp_path / "out")
    with pytest.raises(InputError, match="head is 'drop', but the models' heads are all alike"):
        merge_folders(job(paths, tmp_path / "other", "update-selective", head="drop"))


def test_integers_are_copied_if_equal(tmp_path: Path) -> None:
    base = {"w": torch.zeros(4), "steps": torch.tensor([3]), "flags": torch.tensor([True, False])}
    paths = [
        write_model(tmp_path / str(n), {**base, "w": base["w"] + n, "steps": base["steps"] + (n > 1)}) for n in range(3)
    ]
    merge_folders(job(paths[:2], tmp_path / "out", "update-selective"))
    assert read_model(tmp_path / "out")["steps"].tolist() == [3]
    with pytest.raises(InputError, match=r"steps is torch\.int64 and differs"):
        merge_folders(job([paths[0], paths[2]], tmp_path / "other", "update-selective"))
    assert not (tmp_path / "other").exists()


# --- preflight ---------------------------------------------------------------------------------------------------


def test_everything_that_does_not_fit_is_named_at_once(models: list[Tensors], tmp_path: Path) -> None:
    base, other = dict(models[0]), dict(models[1])
    other["model.layers.0.mlp.upproj.weight"] = other.pop("model.layers.0.mlp.up_proj.weight")
    other["model.norm.weight"] = other["model.norm.weight"][:5].clone()
    other["model.layers.0.input_layernorm.weight"] = other["model.layers.0.input_layernorm.weight"].half()
    paths = [
        write_model(tmp_path / "a", base),
        write_model(tmp_path / "b", other, config={"rms_norm_eps": 1e-5, "vocab_size": 120, "bos_token_id": 3}),
    ]
    plan = preflight(job(paths, tmp_path / "out", "update-selective"))
    text = "\n".join(plan.errors)
    for part in (
        "missing model.layers.0.mlp.up_proj.weight (nearest: model.layers.0.mlp.upproj.weight)",
        "extra model.layers.0.mlp.upproj.weight",
        "model.norm.weight has shape (128,)", "but (5,)",
        "input_layernorm.weight is torch.float32", "but torch.float16",
        "rms_norm_eps is 1e-06", "but 1e-05",
        "vocabulary rows differ: 109", "120", "its tokenizer has 109 tokens",
    ):  # fmt: skip
        assert part in text, part
    with pytest.raises(InputError, match="nearest"):
        merge_folders(job(paths, tmp_path / "out", "update-selective"))
    assert not (tmp_path / "out").exists()


def edit_tokenizer(folder: Path, change: dict[str, Any]) -> None:
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def test_tokenizers_are_compared(models: list[Tensors], tmp_path: Path) -> None:
    paths = [write_model(tmp_path / str(n), model) for n, model in enumerate(models[:2])]
    stored = json.loads((paths[1] / "tokenizer.json").read_text())
    added = stored["added_tokens"]
    edit_tokenizer(paths[1], {"added_tokens": [*added, {**added[-1], "id": 200, "content": "new"}]})
    plan = preflight(job(paths, tmp_path / "out", "update-selective"))
    assert not plan.errors
    assert "1 tokens are in the tokenizer of" in plan.warnings[0]
    report = merge_folders(job(paths, tmp_path / "merged", "update-selective"), plan=plan).to_dict()
    assert "1 tokens are in the tokenizer of 0 or 1 only" in report["notes"][0]
    edit_tokenizer(paths[1], {"added_tokens": added, "normalizer": {"type": "NFC"}})
    plan = preflight(job(paths, tmp_path / "out", "update-selective"))
    assert not plan.errors
    assert "differ in normalizer" in plan.warnings[0]
    names = [token["content"] for token in added]
    swapped = [{**token, "content": name} for token, name in zip(added, [names[1], names[0], *names[2:]], strict=True)]
    edit_tokenizer(paths[1], {"added_tokens": swapped, "model": {**stored["model"], "vocab": {}}})
    edit_tokenizer(paths[0], {"model": {**stored["model"], "vocab": {}}})
    plan = preflight(job(paths, tmp_path / "out", "update-selective"))
    assert "give 2 tokens other ids" in plan.errors[0]


def test_settings_can_come_from_another_model(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    base, first, _ = folders["float32"]
    settings = tmp_path / "settings"
    shutil.copytree(first, settings)
    (settings / "chat_template.jinja").write_text("hello")
    merge_folders(job([base, first], tmp_path / "out", "update-selective", files_from=settings))
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "hello"
    plan = preflight(job([base, first], tmp_path / "other", "update-selective", files_from=tmp_path))
    assert "files_from is" in plan.errors[0]


def test_folders_that_cannot_be_read_are_all_named(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"")
    plan = preflight(job([tmp_path / "nowhere", pickled, folders["float32"][0]], folders["float32"][0]))
    text = "\n".join(plan.errors)
    for part in ("no such folder", "pickled weights", "which is one of the inputs"):
        assert part in text
    plan = preflight(job(folders["float32"], tmp_path))
    assert "which exists; give another folder" in plan.errors[0]


def test_quantised_models_and_full_disks_are_refused(
    models: list[Tensors], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [
        write_model(tmp_path / str(n), model, config={"quantization_config": {}} if n else None)
        for n, model in enumerate(models[:2])
    ]
    assert "is quantised" in preflight(job(paths, tmp_path / "out", "update-selective")).errors[0]
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    plan = preflight(job([paths[0], paths[0]], tmp_path / "new" / "out", "update-selective"))
    assert any("0 MiB free, the output needs 18" in error for error in plan.errors)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"head": "keep"}, "head is 'keep'"),
        ({"shard_mb": 0}, "shard_mb is 0; give at least 1"),
        ({"models": ()}, "no model to merge"),
        ({"base": None}, "task-arithmetic needs a base"),
        ({"method": "linear", "scale": None, "weights": None}, "linear takes no base"),
    ],
)
def test_jobs_that_make_no_sense(
    folders: dict[str, list[Path]], tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        preflight(job(folders["float32"], tmp_path / "out", **options))


def test_a_preflight_writes_nothing(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    asked = job(folders["float32"], tmp_path / "out")
    plan = preflight(asked)
    assert summary_lines(plan, asked.out)[1].startswith("38 of 38 tensors, 605440 numbers, float32; 2.3 MiB")
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_byte_in_an_input_with_checksums(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    merge_folders(job(folders["float32"], tmp_path / "first"))
    file = tmp_path / "first" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 64
    file.write_bytes(content)
    plan = preflight(job([folders["float32"][0], tmp_path / "first"], tmp_path / "out", "update-selective"))
    assert "does not match its checksum" in plan.errors[0]


# --- the output folder -------------------------------------------------------------------------------------------


def test_overwriting_replaces_the_whole_folder(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    merge_folders(job(folders["float32"], tmp_path / "out"), shard_bytes=300_000)
    merge_folders(job(folders["float32"], tmp_path / "out", "ties", overwrite=True))
    assert [file.name for file in (tmp_path / "out").glob("*.safetensors*")] == ["model.safetensors"]
    assert "--method ties" in (tmp_path / "out" / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_leftovers_of_killed_runs_are_cleared(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    # process ids end far below this one
    (tmp_path / f"{PARTIAL}4194999-out").mkdir()
    alive, foreign = tmp_path / f"{PARTIAL}1-out", tmp_path / f"{PARTIAL}4194999-my-out"
    alive.mkdir()
    foreign.mkdir()
    merge_folders(job(folders["float32"], tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([alive.name, foreign.name, "out"])


@pytest.mark.parametrize("bad", ["nan in the data", "disk"])
def test_a_failed_merge_leaves_the_old_folder(
    models: list[Tensors], folders: dict[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    merge_folders(job(folders["float32"], tmp_path / "out"))
    before = read_model(tmp_path / "out")
    broken = {**models[1], "model.norm.weight": torch.full((128,), torch.nan)}
    paths = [folders["float32"][0], write_model(tmp_path / "broken", broken)]
    if bad == "disk":
        paths = folders["float32"]
        full_after(monkeypatch, 1_000_000)
    with pytest.raises((InputError, CheckpointError), match="norm.weight holds NaN|no space left while writing"):
        merge_folders(job(paths, tmp_path / "out", "task-arithmetic", weights=None, overwrite=True))
    monkeypatch.undo()
    assert same_bits(read_model(tmp_path / "out"), before)
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "broken"}


def full_after(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Every shard write beyond so many bytes says that the disk is full."""
    import errno

    from lengthwise.safetensors_io.writer import ShardWriter

    write, left = ShardWriter._write_and_sum, [room]

    def limited(self: ShardWriter, data: memoryview) -> None:
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, data)

    monkeypatch.setattr(ShardWriter, "_write_and_sum", limited)
