from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import resume_driver
import tiny
from safetensors.torch import load_file

from lengthwise.engine import checkpoint
from lengthwise.engine.checkpoint import checkpoint_folders, newest_checkpoint, restore
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.errors import CheckpointError, LengthwiseWarning
from lengthwise.files import PARTIAL, disk_full, read_json, sha256_file

SECONDS = 120


@pytest.fixture(scope="module")
def processes():
    # Every training is a process of its own; the server has imported torch once for all of them.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers.models.qwen2.modeling_qwen2", "tensorboardX"])
    return context


def start(processes, folder: Path, spot: str = "", number: int = 0, ready=None):
    process = processes.Process(target=resume_driver.run, args=(folder, spot, number, ready))
    process.start()
    return process


def finish(process) -> int:
    process.join(SECONDS)
    return process.exitcode


@pytest.fixture(scope="module")
def uninterrupted(processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert finish(start(processes, folder)) == 0
    metrics = tiny.comparable(read_metrics(folder))
    assert [row["step"] for row in metrics] == [1, 2, 3, 4, 5, 6]
    return metrics, load_file(folder.parent / "final.safetensors")


def expect_the_same(folder: Path, uninterrupted) -> None:
    metrics, weights = uninterrupted
    assert tiny.comparable(read_metrics(folder)) == metrics
    found = load_file(folder.parent / "final.safetensors")
    assert found.keys() == weights.keys()
    assert all(found[name].equal(weights[name]) for name in weights)
    assert not list(folder.rglob(f"{PARTIAL}*"))
    assert [path.name for path in checkpoint_folders(folder / "checkpoints")] == ["step-000004", "step-000006"]


# Two files, two JSON documents and one folder rename make a checkpoint; three are written. The log's own first
# write is a rename too. Numbers are chosen so that the first, a middle and the last checkpoint are all hit.
KILLS = [
    ("in the weights file", 1),
    ("in the weights file", 4),
    ("after a checkpoint's file", 3),
    ("before the JSON of a checkpoint", 4),
    ("after the JSON of a checkpoint", 6),
    ("before a rename", 7),
    ("after a rename", 4),
    ("before a sync", 12),
    ("before a line of metrics", 4),
    ("in a line of metrics", 5),
    ("after a line of metrics", 4),
    ("in the removal of an old checkpoint", 7),
]


@pytest.mark.parametrize(("spot", "number"), KILLS, ids=[f"{spot} {number}" for spot, number in KILLS])
def test_a_killed_run_goes_on_as_if_nothing_had_been(processes, tmp_path, uninterrupted, spot, number):
    folder = tmp_path / "run"
    assert finish(start(processes, folder, spot, number)) == -signal.SIGKILL
    assert not (tmp_path / "final.safetensors").exists()
    # whatever stands under a final name is whole
    for path in checkpoint_folders(folder / "checkpoints")[-2:]:
        for name, expected in read_json(path / checkpoint.MANIFEST)["sha256"].items():
            assert sha256_file(path / name) == expected
    assert finish(start(processes, folder)) == 0
    expect_the_same(folder, uninterrupted)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_at_a_random_time(processes, tmp_path, uninterrupted, seed):
    folder = tmp_path / "run"
    ready = processes.Event()
    process = start(processes, folder, ready=ready)
    assert ready.wait(SECONDS)
    time.sleep(random.Random(seed).uniform(0.05, 0.5))
    process.kill()
    finish(process)
    assert finish(start(processes, folder)) == 0
    expect_the_same(folder, uninterrupted)


def test_a_finished_run_is_not_trained_again(processes, tmp_path, uninterrupted):
    folder = tmp_path / "run"
    assert finish(start(processes, folder)) == 0 == finish(start(processes, folder))
    expect_the_same(folder, uninterrupted)


# damage, in this process


def trained(folder: Path, steps: int, **options):
    seen = []
    made = tiny.trainer(folder, steps=steps, **options)
    made.train(on_step=seen.append)
    return made, seen


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [truncate, flip_a_bit, remove])
@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_found_and_the_one_before_is_used(tmp_path, name, harm):
    whole, expected = trained(tmp_path / "whole", 4)
    trained(tmp_path / "run", 3)
    broken = tmp_path / "run" / "checkpoints" / "step-000003"
    harm(broken / name)
    with pytest.warns(LengthwiseWarning, match="step-000003.*falling back to the one before"):
        again, seen = trained(tmp_path / "run", 4)
    assert [row["step"] for row in seen] == [3, 4]
    assert tiny.comparable(read_metrics(tmp_path / "run")) == tiny.comparable(expected)
    assert all(a.equal(b) for a, b in zip(whole.parts.learner.parameters, again.parts.learner.parameters, strict=True))


def test_when_all_checkpoints_are_damaged_the_run_starts_over(tmp_path):
    trained(tmp_path, 2)
    for path in checkpoint_folders(tmp_path / "checkpoints"):
        truncate(path / checkpoint.WEIGHTS)
    with pytest.warns(LengthwiseWarning, match="falling back") as caught:
        _, seen = trained(tmp_path, 2)
    assert len(caught) == 2 and [row["step"] for row in seen] == [1, 2]


def test_a_checksum_that_fits_an_unreadable_file(tmp_path):
    trained(tmp_path, 1)
    path = tmp_path / "checkpoints" / "step-000001"
    (path / checkpoint.OPTIMIZER).write_bytes(b"not safetensors")
    sums = {name: sha256_file(path / name) for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE)}
    checkpoint.atomic_write_json(path / checkpoint.MANIFEST, {"step": 1, "sha256": sums})
    with pytest.warns(LengthwiseWarning, match="cannot be read"):
        assert newest_checkpoint(tmp_path / "checkpoints") is None


def test_no_folder_is_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path / "none") is None


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trained(tmp_path, 1)
    other = tiny.trainer(tmp_path, net=tiny.model("gpt_neox"))
    with pytest.raises(CheckpointError, match="checkpoint of step 1 belongs to another model"):
        other.train()
    found = newest_checkpoint(tmp_path / "checkpoints")
    found.weights["model.norm.weight"] = found.weights["model.norm.weight"][:5]
    mine = tiny.trainer(tmp_path)
    with pytest.raises(CheckpointError, match="another model"):
        restore(found, mine.model, mine.parts.learner.optimizer)


def test_only_the_newest_two_are_kept(tmp_path):
    trained(tmp_path, 5)
    assert [p.name for p in checkpoint_folders(tmp_path / "checkpoints")] == ["step-000004", "step-000005"]


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, call):
    trained(tmp_path, 2)
    before = {path: sha256_file(path) for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    calls = []

    def full(original):
        def write(*args, **kwargs):
            calls.append(original)
            if len(calls) == call:
                Path(args[1] if original is save else args[0]).write_bytes(b"half")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*args, **kwargs)

        return write

    save, document = checkpoint.save_file, checkpoint.atomic_write_json
    monkeypatch.setattr(checkpoint, "save_file", full(save))
    monkeypatch.setattr(checkpoint, "atomic_write_json", full(document))
    with pytest.raises(OSError) as caught:
        trained(tmp_path, 3)
    assert disk_full(caught.value)
    after = {path: sha256_file(path) for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    assert after == before
    monkeypatch.undo()
    _, seen = trained(tmp_path, 3)
    assert [row["step"] for row in seen] == [3]
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]
