"""A windowed run that is killed goes on as if nothing had been: pool, both models, optimizer, metrics."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import resume_driver
import tiny
import torch
import windows
from safetensors.torch import load_file, save_file

from lengthwise.engine.checkpoint import (
    MANIFEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Checkpoints,
    checkpoint_folders,
    newest_checkpoint,
)
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.engine.trainer import Trainer
from lengthwise.errors import CheckpointError, LengthwiseWarning
from lengthwise.files import atomic_write_json, read_json, sha256_file
from lengthwise.methods.papers.t_ppo import t_ppo

SECONDS = 120
# Windows of 3 under a cap of 12, so that responses wait at every checkpoint; the critic alone in steps 1 and 2.
SETTINGS = {"steps": 6, "checkpoint_every": 2, "updates": 2, "warmup_steps": 3}


def train(folder: Path, spot: str = "", number: int = 0) -> None:
    """What a training process runs; at the spot it gets SIGKILL when it comes there for the n-th time."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if spot:
        resume_driver.kill_at(spot, number)
    made = build(folder)
    made.train()
    save_file({name: p.detach().contiguous() for name, p in made.model.named_parameters()},
              folder.parent / "final.safetensors")  # fmt: skip


def build(folder: Path, **options) -> Trainer:
    return windows.build(
        folder, kind=Trainer, method=t_ppo(cap=12, window=3, critic_warmup=2), **{**SETTINGS, **options}
    )


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers.models.qwen2.modeling_qwen2", "tensorboardX"])
    return context


def result(processes, *args) -> int:
    process = processes.Process(target=train, args=args)
    process.start()
    process.join(SECONDS)
    return process.exitcode


@pytest.fixture(scope="module")
def uninterrupted(processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert result(processes, folder) == 0
    metrics = tiny.comparable(read_metrics(folder))
    assert [row["step"] for row in metrics] == [1, 2, 3, 4, 5, 6]
    assert all(row["going_on"] for row in metrics[1:])
    return metrics, load_file(folder.parent / "final.safetensors")


@pytest.mark.parametrize(
    ("spot", "number"),
    [
        ("in the weights file", 3),
        ("after a checkpoint's file", 4),
        ("before the JSON of a checkpoint", 3),
        ("after the JSON of a checkpoint", 4),
        ("before a rename", 7),
        ("after a rename", 4),
        ("in a line of metrics", 4),
        ("after a line of metrics", 5),
        ("in the removal of an old checkpoint", 1),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(processes, tmp_path, uninterrupted, spot, number):
    folder = tmp_path / "run"
    assert result(processes, folder, spot, number) == -signal.SIGKILL
    assert result(processes, folder) == 0
    metrics, weights = uninterrupted
    assert tiny.comparable(read_metrics(folder)) == metrics
    found = load_file(tmp_path / "final.safetensors")
    assert found.keys() == weights.keys()
    assert all(found[name].equal(weights[name]) for name in weights)


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LengthwiseWarning)
        yield


@pytest.mark.usefixtures("quiet")
def test_a_longer_run_goes_on_with_the_same_pool_wherever_it_stopped(tmp_path):
    whole = build(tmp_path / "whole")
    whole.train()
    for stop in (1, 2, 4, 5):
        folder = tmp_path / str(stop)
        first = build(folder, steps=stop)
        first.train()
        saved = newest_checkpoint(folder / "checkpoints").state
        assert saved["collector"] == first.parts.collector.state != []
        again = build(folder)
        again.train()
        assert tiny.comparable(read_metrics(folder)) == tiny.comparable(read_metrics(tmp_path / "whole"))
        assert again.parts.collector.state == whole.parts.collector.state
        assert again.run.cursor == whole.run.cursor
        assert windows.same(windows.weights(again.model), windows.weights(whole.model))


@pytest.mark.usefixtures("quiet")
def test_the_checkpoint_holds_both_models_and_both_optimizer_states(tmp_path):
    made = build(tmp_path)
    made.train()
    found = newest_checkpoint(tmp_path / "checkpoints")
    names = {name for name, _ in made.model.named_parameters()}
    assert found.weights.keys() == names
    assert {name.split(".")[0] for name in names} == {"policy", "critic"}
    assert {name.split("|")[1] for name in found.optimizer} == names


@pytest.mark.usefixtures("quiet")
def test_fewer_slots_after_a_restart_lose_nobody(tmp_path):
    first = build(tmp_path, steps=2)
    first.train()
    waiting = [response.serial for response in first.parts.collector.pool.waiting]
    again = build(tmp_path, steps=6, prompts=1, group_size=2, updates=1)
    again.train()
    left = {response.serial for response in again.parts.collector.pool.waiting}
    # two slots a step: those in front went on, nobody new was begun while others waited
    assert again.run.cursor == first.run.cursor
    assert left <= set(waiting)
    assert len(waiting) > len(left) >= len(waiting) - 8


@pytest.mark.usefixtures("quiet")
def test_a_checkpoint_of_a_run_without_windows_is_refused(tmp_path):
    tiny.trainer(tmp_path, steps=1).train()
    with pytest.raises(CheckpointError, match="checkpoint of step 1 belongs to another model"):
        build(tmp_path).train()


@pytest.mark.usefixtures("quiet")
def test_a_checkpoint_of_before_has_its_pool_beside_the_memory_and_goes_on_too(tmp_path):
    whole = build(tmp_path / "whole", steps=3)
    whole.train()
    build(tmp_path / "old", steps=2).train()
    folder = checkpoint_folders(tmp_path / "old" / "checkpoints")[-1]
    state = read_json(folder / STATE)
    state["method"] = {"method": state["method"], "pool": state.pop("collector")}
    atomic_write_json(folder / STATE, state)
    sums = {name: sha256_file(folder / name) for name in (WEIGHTS, OPTIMIZER, STATE)}
    atomic_write_json(folder / MANIFEST, {"step": 2, "sha256": sums})
    again = build(tmp_path / "old", steps=3)
    again.train()
    assert windows.same(windows.weights(again.model), windows.weights(whole.model))


@pytest.mark.usefixtures("quiet")
def test_windows_are_not_continued_by_a_method_without_them(tmp_path):
    made = build(tmp_path, steps=1)
    made.train()
    groups = replace(made.parts, collector=tiny.trainer(tmp_path / "groups").parts.collector)
    with pytest.raises(CheckpointError, match="was written by a method of another kind; name that method"):
        Checkpoints(tmp_path / "checkpoints", groups).load()
