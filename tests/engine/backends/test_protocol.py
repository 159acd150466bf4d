"""What the trainer knows of a backend: it proves itself, is handed the weights of every step, and is closed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from lengthwise.engine import Sampler, Scorer
from lengthwise.engine.backends.protocol import Backend, prove
from lengthwise.engine.trainer import PROOF
from lengthwise.errors import UnsupportedModelError

PROMPTS = [[2, 1], [3, 4, 1]]


class Noted(Sampler):
    """The reference, noting what it is told."""

    def __init__(self, net: Any, off: float = 0.0) -> None:
        super().__init__(net, eos_ids=tiny.EOS, pad_id=0)
        self.off, self.synced = off, []

    def generate(self, *args: Any, **options: Any) -> Any:
        drawn = super().generate(*args, **options)
        return drawn.with_fields(logp=drawn.logp + self.off)

    def sync(self, weights: Any) -> None:
        self.synced.append({name: tensor.detach().clone() for name, tensor in weights})


def test_the_reference_is_a_backend() -> None:
    backend: Backend = Sampler(tiny.model(), eos_ids=tiny.EOS, pad_id=0)
    assert backend.name == "transformers" and backend.device == torch.device("cpu")


def test_the_proof_is_the_gap_to_the_scorer_and_draws_none_of_the_run_s_numbers() -> None:
    net, before = tiny.model(), torch.get_rng_state()
    found = prove(Noted(net), Scorer(net), PROMPTS, temperature=1.0)
    assert found.prompts == 2 and 2 <= found.tokens <= 16 and found.largest_gap < 1e-4 <= found.limit
    assert torch.equal(torch.get_rng_state(), before)
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    # Every token is off by .0005, which is taken in float32; by .01 it is not.
    assert prove(Noted(net, 5e-4), Scorer(net), PROMPTS, temperature=1.0).mean_gap == pytest.approx(5e-4, abs=1e-5)
    with pytest.raises(UnsupportedModelError, match=r"differ from the model's by 0.01 on average \(allowed 0.001\)"):
        prove(Noted(net, 1e-2), Scorer(net), PROMPTS, temperature=1.0)
    with pytest.raises(UnsupportedModelError, match="by nan on average"):
        prove(Noted(net, float("nan")), Scorer(net), PROMPTS, temperature=1.0)


def test_half_precision_may_differ_by_more() -> None:
    net = tiny.model().to(torch.bfloat16)
    assert prove(Noted(net, 0.01), Scorer(net), PROMPTS, temperature=1.0).limit == 0.1


def test_a_trainer_hands_over_the_weights_of_every_step_and_keeps_the_proof(tmp_path: Path) -> None:
    net = tiny.model()
    backend = Noted(net)
    made = tiny.trainer(tmp_path, net=net, steps=2, backend=backend)
    made.prove()
    assert json.loads((tmp_path / PROOF).read_text())["backend"] == "transformers"
    made.train()
    assert len(backend.synced) == 2 and backend.synced[0].keys() == dict(net.named_parameters()).keys()
    assert all(torch.equal(backend.synced[1][name], value) for name, value in net.named_parameters())
    assert any(not torch.equal(backend.synced[0][name], value) for name, value in backend.synced[1].items())
    # A run that goes on hands over what it goes on from.
    again = Noted(tiny.model())
    tiny.trainer(tmp_path, net=again.model, steps=3, backend=again).train()
    assert len(again.synced) == 2
    assert all(torch.equal(again.synced[0][name], value) for name, value in backend.synced[1].items())
