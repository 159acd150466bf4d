"""Training on a device without float64 (`mps`): nothing on the way makes one. The CPU stands in for such a device."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lengthwise.config.groups.training import Training
from lengthwise.engine.method_validation import rehearse
from lengthwise.engine.trainer import Trainer
from lengthwise.methods import METHODS, build_method
from lengthwise.objectives import _wide

pytestmark = pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")
OWN = {"siri": {"cycle": 8, "shortest": 4}, "t-ppo": {"critic_warmup": 0}, "ppo": {"critic_warmup": 0}}
WITH_WORDS = (
    "adaptive",
    "brpo",
    "crisp",
    "effort",
    "elastic",
)  # their prompts need a tokenizer; all their parts are called all the same
LOOPED = [name for name in METHODS if name not in ("ada-r1", *WITH_WORDS)]


class NoFloat64(TorchDispatchMode):
    """What a device says that has no float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.dtype is torch.float64:
                raise TypeError(f"{func} made a float64, which this device does not have")
        return out


@pytest.fixture
def without_float64(monkeypatch):
    monkeypatch.setattr(_wide, "LACK_FLOAT64", {"cpu"})


def run(folder, name):
    method = build_method(name, cap=6, **OWN.get(name, {}))
    trainer = Trainer(
        tiny.model(), method=method, task=tiny.task(), folder=folder, eos_ids=tiny.EOS, pad_id=0,
        config=Training(steps=2, prompts=4, group_size=4, updates=2, lr=1e-2), reference=tiny.model(),
    )  # fmt: skip
    trainer.train()
    return trainer


@pytest.mark.parametrize("name", LOOPED)
def test_a_run_makes_no_float64(name, tmp_path, without_float64):
    with NoFloat64():
        trainer = run(tmp_path, name)
    assert trainer.run.step == 2
    assert any(
        not torch.equal(a, b) for a, b in zip(trainer.parts.learner.parameters, tiny.model().parameters(), strict=True)
    )


@pytest.mark.parametrize("name", WITH_WORDS)
def test_a_method_with_words_makes_no_float64(name, without_float64):
    with NoFloat64():
        rehearse(build_method(name, cap=6))


def test_the_check_sees_a_float64(tmp_path):
    with NoFloat64(), pytest.raises(TypeError, match="made a float64"):
        run(tmp_path, "grpo")


def test_elsewhere_statistics_are_float64():
    assert _wide.wide(torch.ones(2, dtype=torch.bool)).dtype is torch.float64
    assert _wide.wide_dtype(torch.device("cuda")) is torch.float64
    assert _wide.wide_dtype(torch.device("mps")) is torch.float32
