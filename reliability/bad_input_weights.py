"""Weights made wrong: safetensors headers and folders of models, checkpoints, runs and records."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from safetensors.numpy import save_file

from lengthwise.errors import LengthwiseWarning
from lengthwise.files import sha256_file
from lengthwise.json_types import JsonObject, JsonValue
from lengthwise.safetensors_io.reader import open_folder, verify_checksums
from lengthwise.statistics.records import Record
from reliability._batches import INSIDE, OUT, Case, command, run
from reliability._harness import Ask, Tally, harness
from reliability._mutations import NAMES, changed_bytes, changed_value, odd_value

if TYPE_CHECKING:
    import torch
    from torch import nn

CONFIG = {"model_type": "qwen2", "vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1, "torch_dtype": "float32"}
HEADER_NUMBERS: tuple[JsonValue, ...] = (
    0, -1, 1, 7, 8, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64, 10**30, 1.5, "8", None, True, [], {},
)  # fmt: skip
ANSWER: JsonObject = {"text": "A:7", "num_tokens": 3, "correct": True, "finished": True}
Pair = tuple[str, JsonValue]


@harness(
    "bad-weights", "Bad input", "safetensors headers, model folders, checkpoints, run folders, records", cases=3000
)
def bad_weights(ask: Ask) -> Tally:
    """`merge` on model folders, checkpoints taken up as by a run, `report` and `compare-records` on the rest."""
    return run("bad_input_weights", ask)


def make(rng: random.Random, place: Path) -> Case:
    """One of the four."""
    kind = rng.choices([_header, _folder, _checkpoint, _run, _records], [5, 3, 3, 2, 1])[0]
    return kind(rng, place)


def _weights(path: Path, scale: float = 1.0) -> None:
    tensors = {
        f"model.layers.0.{name}.weight": (np.arange(rows * 4, dtype=np.float32).reshape(rows, 4) * scale)
        for name, rows in (("q", 4), ("k", 2), ("norm", 1))
    }
    save_file(tensors, path / "model.safetensors")


def _model(path: Path, scale: float = 1.0) -> Path:
    path.mkdir(parents=True)
    _weights(path, scale)
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


def _merge(place: Path, what: str, bad: Path) -> Case:
    base = _model(place / INSIDE / "base")
    words = ("--base", os.path.relpath(base, place), "--method", "task-arithmetic", "--out", f"{OUT}/merged")
    return Case(what, command("merge", os.path.relpath(bad, place), *words))


# ---- headers ---------------------------------------------------------------------------------------------------


def _header(rng: random.Random, place: Path) -> Case:
    """A safetensors file of a changed header."""
    bad = _model(place / INSIDE / f"bad{rng.choice(NAMES)[:40]}", 2.0)
    file = bad / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    pairs = list(cast("dict[str, JsonValue]", json.loads(data[8 : 8 + length])).items())
    for _ in range(1 + rng.randrange(3)):
        pairs = _changed_pairs(pairs, rng)
    text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(entry)}" for name, entry in pairs) + "}"
    header = text.encode()
    if rng.random() < 0.3:
        header = changed_bytes(header, rng)
    said = len(header) if rng.random() < 0.7 else rng.choice([0, 1, length, 10**8, 2**40, 2**63, 2**64 - 1])
    body = data[8 + length :]
    if rng.random() < 0.2:
        body = changed_bytes(body, rng)
    file.write_bytes(said.to_bytes(8, "little") + header + body)
    return _merge(place, "safetensors header", bad)


def _changed_pairs(pairs: list[Pair], rng: random.Random) -> list[Pair]:
    """Entries of a header, as pairs, so that a name may come twice."""
    pairs = [(name, json.loads(json.dumps(entry))) for name, entry in pairs]
    at = rng.randrange(len(pairs)) if pairs else 0
    if not pairs or rng.random() < 0.1:
        return [*pairs, (rng.choice(["x", "", "__metadata__", "../x", "\x00"]), odd_value(rng))]
    name, entry = pairs[at]
    how = rng.randrange(6)
    if how == 0:
        pairs.insert(rng.randrange(len(pairs) + 1), (name, entry))
    elif how == 1 and isinstance(entry, dict) and isinstance(entry.get("data_offsets"), list):
        entry["data_offsets"] = rng.choices(HEADER_NUMBERS, k=rng.choice([2, 2, 2, 1, 3]))
    elif how == 2 and isinstance(entry, dict):
        entry["shape"] = rng.choices(HEADER_NUMBERS, k=rng.randrange(4))
    elif how == 3 and isinstance(entry, dict):
        entry["dtype"] = rng.choice(["F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "X", "", None, 7, []])
    elif how == 4:
        pairs[at] = (name, odd_value(rng))
    else:
        pairs[at] = (name, changed_value(entry, rng))
    return pairs


# ---- folders ---------------------------------------------------------------------------------------------------


def _folder(rng: random.Random, place: Path) -> Case:
    """A folder of shards with its index, config, checksums, one of them changed; at times a link out of it."""
    bad = _model(place / INSIDE / "bad", 2.0)
    (bad / "model.safetensors").rename(bad / "model-00001-of-00001.safetensors")
    names = [f"model.layers.0.{name}.weight" for name in ("q", "k", "norm")]
    index: JsonObject = {
        "metadata": {"total_size": 112},
        "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors"),
    }
    files: dict[str, JsonValue] = {
        "model.safetensors.index.json": index,
        "config.json": cast("JsonObject", CONFIG),
        "checksums.json": {"model-00001-of-00001.safetensors": sha256_file(bad / "model-00001-of-00001.safetensors")},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "a"},
        "generation_config.json": {"eos_token_id": 1},
        "adapter_config.json": {"r": 1, "lora_alpha": 1, "target_modules": ["q"], "base_model_name_or_path": "base"},
    }
    if rng.random() < 0.8:
        del files["adapter_config.json"]
    changed = rng.choice(list(files))
    for name, found in files.items():
        value = changed_value(found, rng) if name == changed else found
        data = json.dumps(value).encode("utf-8", "surrogatepass")
        (bad / name).write_bytes(changed_bytes(data, rng) if name == changed and rng.random() < 0.5 else data)
    if rng.random() < 0.1:
        (bad / rng.choice(["model.safetensors", "lengthwise.json", "tokenizer.json"])).symlink_to(
            rng.choice(["x", "/dev/zero", "."])
        )

    def look() -> None:
        verify_checksums(open_folder(bad))

    if rng.random() < 0.3:
        return Case(f"model folder, {changed}, read alone", look)
    return _merge(place, f"model folder, {changed}", bad)


# ---- checkpoints -----------------------------------------------------------------------------------------------


@functools.cache
def _sound_checkpoint(beside: Path) -> Path:
    """A checkpoint of a tiny model, kept while the process lives."""
    import torch

    from lengthwise.engine.checkpoint import save_checkpoint
    from lengthwise.engine.training_state import TrainingState

    folder = Path(tempfile.mkdtemp(prefix="checkpoint-", dir=beside))
    model, optimizer = _learner()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = TrainingState({}, step=3, cursor=5, sampled_tokens=9).to_dict()
    return save_checkpoint(folder, step=3, model=model, optimizer=optimizer, state=state)


def _learner() -> tuple[nn.Linear, torch.optim.Optimizer]:
    import torch
    from torch import nn

    model = nn.Linear(2, 2)
    return model, torch.optim.AdamW(model.parameters())


def _checkpoint(rng: random.Random, place: Path) -> Case:
    """A run's newest checkpoint changed, at times with checksums that agree with what was changed."""
    folder = place / OUT / "checkpoints"
    sound = folder / "step-000003"
    shutil.copytree(_sound_checkpoint(place.parent), sound)
    name = rng.choice(["state.json", "manifest.json", "weights.safetensors", "optimizer.safetensors"])
    file = sound / name
    data = file.read_bytes()
    if file.suffix == ".json" and rng.random() < 0.7:
        data = json.dumps(changed_value(json.loads(data), rng)).encode("utf-8", "surrogatepass")
    file.write_bytes(changed_bytes(data, rng) if rng.random() < 0.6 else data)
    if name != "manifest.json" and rng.random() < 0.8:
        manifest = json.loads((sound / "manifest.json").read_text())
        manifest["sha256"][name] = sha256_file(file)
        (sound / "manifest.json").write_text(json.dumps(manifest))
    if rng.random() < 0.1:
        sound.rename(
            folder / rng.choice(["step-x", "step-", "step--1", "step-00000000000000000000003", "step-٣", "step-3 "])
        )

    def take_up() -> None:
        from lengthwise.engine.checkpoint import newest_checkpoint, restore
        from lengthwise.engine.training_state import TrainingState

        model, optimizer = _learner()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LengthwiseWarning)
            found = newest_checkpoint(folder)
        if found is not None:
            restore(found, model, optimizer)
            TrainingState.from_dict(found.state)

    return Case(f"checkpoint, {name}", take_up)


# ---- runs and records ------------------------------------------------------------------------------------------


def _record() -> JsonObject:
    context: JsonObject = {"model": "m", "data": "d", "temperature": 1.0, "top_p": 1.0, "samples": 1, "grader": "g/1",
                           "tokenizer": "t", "template": "a", "cap": 9}  # fmt: skip
    record = Record("a", context, ["a", "b"], None, [[True], [False]], [[True], [True]], [[3], [5]])
    with tempfile.TemporaryDirectory() as folder:
        record.save(Path(folder) / "r.json")
        return cast("JsonObject", json.loads((Path(folder) / "r.json").read_text()))


def _run(rng: random.Random, place: Path) -> Case:
    """A run's folder with one file changed, of which the report is built."""
    folder = place / OUT / rng.choice(NAMES)
    (folder / "records").mkdir(parents=True)
    record = _record()
    files: dict[str, JsonValue] = {
        "config.json": {"command": "shorten", "settings": {"seed": 0}, "method": {"name": "dler", "version": "1"},
                        "model": "m", "environment": {"torch": "2"}, "lab": True},
        "records/before.json": record, "records/after.json": record,
        "outcome.json": {"before": {"accuracy": 0.5, "mean_tokens": 4.0}, "after": {"accuracy": 0.5,
        "mean_tokens": 3.0},
                         "steps": 2, "seconds": 1.0, "removable_share": 0.5, "oracle_tokens": 2.0},
        "samples.json": [{"problem": "q", "answer": "7", "level": 2, "before": ANSWER, "after": ANSWER}],
    }  # fmt: skip
    metrics = b"".join(
        json.dumps({"step": n, "reward": 0.5, "mean_tokens": 3.0, "warnings": []}).encode() + b"\n" for n in range(3)
    )
    changed = rng.choice([*files, "metrics.jsonl"])
    for name, found in files.items():
        value = changed_value(found, rng) if name == changed else found
        data = json.dumps(value).encode("utf-8", "surrogatepass")
        (folder / name).write_bytes(changed_bytes(data, rng) if name == changed and rng.random() < 0.4 else data)
    (folder / "metrics.jsonl").write_bytes(changed_bytes(metrics, rng) if changed == "metrics.jsonl" else metrics)
    return Case(f"run's {changed}", command("report", os.path.relpath(folder, place)))


def _records(rng: random.Random, place: Path) -> Case:
    """Two records, of which one is changed."""
    words = []
    for number in range(2):
        value = changed_value(_record(), rng) if number else _record()
        data = json.dumps(value).encode("utf-8", "surrogatepass")
        file = place / INSIDE / f"{number}.json"
        file.write_bytes(changed_bytes(data, rng) if number and rng.random() < 0.4 else data)
        words.append(f"{rng.choice(NAMES)}={os.path.relpath(file, place)}")
    flags = rng.choice([(), ("--json",), ("--out", f"{OUT}/page.html")])
    return Case("records", command("compare-records", *words, *flags))
