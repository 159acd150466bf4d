"""Training an adapter: what it is held to, and what that costs."""

from __future__ import annotations

import gc
import json
from contextlib import nullcontext

import pytest
import torch

pytest.importorskip("peft", reason="LoRA comes with the extra trl")

import tiny

from lengthwise.config.commands import ShortenSettings
from lengthwise.config.groups.training import Training
from lengthwise.engine.batches import Collected, Task
from lengthwise.engine.distillation import DistillationLearner
from lengthwise.engine.groups import GroupBatch
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.engine.model_folders import load_policy
from lengthwise.engine.trainer import Trainer
from lengthwise.engine.training_state import TrainingState
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import build_method
from lengthwise.runs.chains_demo import chain_problems
from lengthwise.runs.shortening.job import Job
from lengthwise.runs.shortening.shorten import shorten

pytestmark = pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")


def adapted(seed=0, **options):
    return load_policy(shipped_reasoner(), device="cpu", lora_rank=2, seed=seed, **options).model


def moved(net):
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    return net


@pytest.mark.parametrize("checkpointing", [False, True])
def test_without_its_adapter_a_model_scores_as_its_start_did(checkpointing):
    net = moved(adapted(gradient_checkpointing=checkpointing))
    drawn = tiny.rollouts([4, 7, 2])
    plain = load_policy(shipped_reasoner(), device="cpu").model
    learning = [p for p in net.parameters() if p.requires_grad]
    reference = Scorer(net, adapted=False)
    with torch.no_grad():
        wanted, found, policy = Scorer(plain)(drawn)[0], reference(drawn)[0], Scorer(net)(drawn)[0]
    assert torch.equal(found, wanted) and (policy - wanted).abs().max() > 1e-3
    assert [p for p in net.parameters() if p.requires_grad] == learning  # and it goes on learning


def run(folder, **options):
    made = Trainer(
        adapted(), method=build_method("grpo", cap=6, kl_coef=0.1), task=tiny.task(),
        config=Training(steps=3, prompts=4, group_size=4, updates=2, lr=1e-2, temperature=3.0), folder=folder,
        eos_ids=tiny.EOS, pad_id=0, **options,
    )  # fmt: skip
    made.train()
    return made


def test_a_penalty_towards_the_model_without_its_adapter_is_that_towards_a_second_model(tmp_path):
    one = run(tmp_path / "one")
    two = run(tmp_path / "two", reference=load_policy(shipped_reasoner(), device="cpu").model)
    assert one.parts.learner.reference.model is one.scorer.model is not two.parts.learner.reference.model
    assert tiny.comparable(read_metrics(tmp_path / "one")) == tiny.comparable(read_metrics(tmp_path / "two"))
    assert read_metrics(tmp_path / "one")[-1]["reference_kl"] > 0


def test_a_run_with_a_penalty_holds_the_base_once(tmp_path, monkeypatch):
    held, train = [], Trainer.train

    def counted(self, *args):
        gc.collect()
        parts = {p.data_ptr(): p.nbytes for p in gc.get_objects() if isinstance(p, torch.nn.Parameter)}
        held.append(sum(parts.values()))
        train(self, *args)

    monkeypatch.setattr(Trainer, "train", counted)
    problems = chain_problems(chains.problems(4, split="train", seed=0, levels=(1, 2)), shipped_reasoner())
    gc.collect()
    before = sum({p.data_ptr(): p.nbytes for p in gc.get_objects() if isinstance(p, torch.nn.Parameter)}.values())
    base = sum(p.nbytes for p in load_policy(shipped_reasoner(), device="cpu").model.parameters())
    settings = ShortenSettings.from_dict(
        {"model": "lab:chains", "data": "lab", "out": tmp_path / "run", "device": "cpu", "lora": 2, "steps": 1,
         "prompts": 2, "group_size": 2, "updates": 1}
    )  # fmt: skip
    shorten(Job(settings, 40, 60), problems, problems)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["job"]["lora"] == 2
    (during,) = held
    assert base < during - before < 1.2 * base  # with a second model it was above 2


def test_a_teacher_of_an_adapted_model_copies_the_adapter_alone():
    net = adapted()
    plain = tiny.task()
    practice = Task(plain.prompts, plain.grade, instruct=lambda problem, words: [5, 7, *plain.prompts[problem]])
    method = build_method("crisp", cap=6, instruction="x", every=0)
    config = Training(steps=1, prompts=2, group_size=2, updates=1, lr=1e-2)
    made = DistillationLearner(Scorer(net), practice, method, config, nullcontext)
    learning = [p for p in net.parameters() if p.requires_grad]
    assert len(made.copied) == len(learning) and sum(p.numel() for p in made.copied) < 0.1 * net.num_parameters()
    start = [p.detach().clone() for p in learning]
    drawn = tiny.rollouts([4, 3], groups=[0, 1], prompt_lengths=[2, 2])
    batch = GroupBatch(Collected(drawn, drawn, 1, 0), 6)
    metrics = made.learn(batch, TrainingState({})).metrics
    assert metrics["loss"] > 0 and metrics["weights_moved"] > 0
    assert all(torch.equal(a, b) for a, b in zip(start, made.copied, strict=True))
