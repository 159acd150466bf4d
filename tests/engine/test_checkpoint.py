"""Checkpoints: what is in them, what comes back, and every damage that must be found."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
import tiny
import torch

from lengthwise.engine.checkpoint import (
    MANIFEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    checkpoint_folders,
    newest_checkpoint,
    restore,
    save_checkpoint,
    trained_tensors,
)
from lengthwise.errors import LengthwiseWarning
from lengthwise.files import PARTIAL, sha256_file


def trained(seed=0, steps=2):
    net = tiny.model(seed=seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        net(input_ids=torch.tensor([[3, 4, 5 + step]])).logits.square().sum().backward()
        optimizer.step()
    return net, optimizer


def save(folder, step, seed=0, **options):
    net, optimizer = trained(seed)
    save_checkpoint(folder, step=step, model=net, optimizer=optimizer, state={"cursor": step * 10}, **options)
    return net, optimizer


def test_everything_comes_back_bit_for_bit(tmp_path):
    net, optimizer = save(tmp_path, 3)
    found = newest_checkpoint(tmp_path)
    assert found.step == 3
    assert found.state["cursor"] == 30
    other, fresh = trained(seed=1)
    restore(found, other, fresh)
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert optimizer.state[one].keys() == fresh.state[two].keys()
        for key, value in optimizer.state[one].items():
            assert torch.equal(value, fresh.state[two][key])


def test_the_next_step_after_restoring_is_the_same(tmp_path):
    net, optimizer = save(tmp_path, 1)
    other, fresh = trained(seed=1, steps=0)
    restore(newest_checkpoint(tmp_path), other, fresh)
    for model, moves in ((net, optimizer), (other, fresh)):
        moves.zero_grad()
        model(input_ids=torch.tensor([[9, 8, 7]])).logits.square().sum().backward()
        moves.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_restoring_reads_the_optimizer_s_tensors_once(tmp_path):
    class Counted(dict):
        reads = 0

        def items(self):
            Counted.reads += 1
            return super().items()

    save(tmp_path, 1)
    found = newest_checkpoint(tmp_path)
    net, optimizer = trained(seed=1, steps=0)
    assert len(found.optimizer) == 3 * len(list(net.parameters()))
    restore(replace(found, optimizer=Counted(found.optimizer)), net, optimizer)
    assert Counted.reads == 1  # not once for every tensor


def test_a_parameter_that_is_one_number_comes_back(tmp_path):
    def made(start):
        net = torch.nn.Module()
        net.scale = torch.nn.Parameter(torch.tensor(start))
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
        net.scale.square().backward()
        optimizer.step()
        return net, optimizer

    net, optimizer = made(3.0)
    save_checkpoint(tmp_path, step=1, model=net, optimizer=optimizer, state={})
    other, fresh = made(7.0)
    restore(newest_checkpoint(tmp_path), other, fresh)
    assert other.scale == net.scale and fresh.state[other.scale]["exp_avg"] == optimizer.state[net.scale]["exp_avg"]


def test_frozen_weights_are_not_saved():
    net = tiny.model()
    net.get_input_embeddings().weight.requires_grad_(False)
    assert "model.embed_tokens.weight" not in trained_tensors(net)
    assert "model.layers.0.mlp.up_proj.weight" in trained_tensors(net)


def test_the_manifest_holds_every_file_s_checksum(tmp_path):
    save(tmp_path, 7)
    path = tmp_path / "step-000007"
    manifest = json.loads((path / MANIFEST).read_text())
    assert manifest == {"step": 7, "sha256": {n: sha256_file(path / n) for n in (WEIGHTS, OPTIMIZER, STATE)}}


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_only_the_newest_are_kept(tmp_path, keep):
    for step in (1, 2, 3, 4):
        save(tmp_path, step, keep=keep)
    assert [path.name for path in checkpoint_folders(tmp_path)] == [f"step-{s:06d}" for s in range(5 - keep, 5)]


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "7", '{"sha256": {}}', '{"sha256": {"state.json": "0"}}', '{"sha256": ["weights.safetensors"]}', "{"],
)
def test_a_manifest_that_does_not_vouch_for_the_files_is_damage(tmp_path, content):
    save(tmp_path, 1)
    save(tmp_path, 2)
    (tmp_path / "step-000002" / MANIFEST).write_text(content)
    with pytest.warns(LengthwiseWarning, match=r"step-000002.*damaged.*falling back"):
        found = newest_checkpoint(tmp_path)
    assert found.step == 1
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step-000001"]


def test_every_flipped_bit_of_the_manifest_is_damage_or_harmless(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = tmp_path / "step-000002" / MANIFEST
    whole = path.read_bytes()
    broken = tmp_path / "step-000002"
    keep = {p.name: p.read_bytes() for p in broken.iterdir()}
    for place in range(0, len(whole), 9):
        broken.mkdir(exist_ok=True)
        for name, content in keep.items():
            (broken / name).write_bytes(content)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 2]) + whole[place + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LengthwiseWarning)
            assert newest_checkpoint(tmp_path).step in (1, 2)


def test_half_written_leftovers_are_cleared_and_never_read(tmp_path):
    save(tmp_path, 1)
    partial = tmp_path / f"{PARTIAL}77-step-000002"
    partial.mkdir()
    (partial / WEIGHTS).write_bytes(b"half")
    assert newest_checkpoint(tmp_path).step == 1
    assert not partial.exists()
