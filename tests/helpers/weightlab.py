"""Small model folders for tests of weights: the shipped reasoner, changed, in any number of shards and format."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lengthwise.cli import main
from lengthwise.lab.reasoner import shipped_reasoner

Tensors = dict[str, torch.Tensor]


def shipped_tensors() -> Tensors:
    """The shipped reasoner's weights."""
    return load_file(shipped_reasoner() / "model.safetensors")


def changed(tensors: Tensors, seed: int, spread: float = 0.01) -> Tensors:
    """The same with a random change of every float."""
    dice = torch.Generator().manual_seed(seed)
    return {
        name: (w.float() + spread * torch.randn(w.shape, generator=dice)).to(w.dtype) if w.is_floating_point() else w
        for name, w in tensors.items()
    }


def write_model(folder: Path, tensors: Tensors, *, shards: int = 1, config: dict[str, Any] | None = None) -> Path:
    """A folder with the shipped reasoner's settings and tokenizer and these weights."""
    folder.mkdir(parents=True)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(shipped_reasoner() / name, folder / name)
    if config:
        stored = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(stored | config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names, weight_map = list(tensors), {}
    for number in range(shards):
        part = {name: tensors[name] for name in names[number::shards]}
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(w.numel() * w.element_size() for w in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def read_model(folder: Path) -> Tensors:
    """All tensors of a folder, read by safetensors itself, as copies that outlive the files."""
    tensors: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= {name: tensor.clone() for name, tensor in load_file(file).items()}
    return tensors


def same_bits(left: Tensors, right: Tensors) -> bool:
    """Whether two models have the same names, formats, shapes and bits."""
    return left.keys() == right.keys() and all(
        (w.dtype, w.shape) == (right[n].dtype, right[n].shape)
        and torch.equal(w.reshape(-1).view(torch.uint8), right[n].reshape(-1).view(torch.uint8))
        for n, w in left.items()
    )


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The command in this process; gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["lengthwise", *map(str, arguments)])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0
