"""The teacher of CRISP in the engine: its prompts, its copies, its three forms; what is killed goes on."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fake_vllm
import pytest
import tiny
import torch

from lengthwise.config.groups.training import Training
from lengthwise.engine.backends.vllm_engine import Serving
from lengthwise.engine.backends.vllm_sampler import Served, VllmSampler
from lengthwise.engine.batches import Collected, Task
from lengthwise.engine.distillation import DistillationLearner, likeliest, response_states, teacher_prompts
from lengthwise.engine.groups import GroupBatch
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.method import Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.training_state import TrainingState
from lengthwise.errors import ConfigError, LengthwiseWarning, TrainingError, UnsupportedModelError
from lengthwise.methods import build_method

WORDS = [7, 9, 11]


def instruct(problem: int, words: str) -> list[int]:
    """Words of the teacher are three tokens in front, a blank is none."""
    bare = list(tiny.task().prompts[problem])
    return [*WORDS, *bare] if words.strip() else bare


def practice(grade: Any = None) -> Task:
    plain = tiny.task()
    return Task(plain.prompts, grade or plain.grade, instruct=instruct)


def crisp(**options: Any) -> Method:
    return build_method("crisp", cap=6, instruction="x", **options)


def learner(net: Any, method: Method, **options: Any) -> DistillationLearner:
    settings: dict[str, Any] = {"steps": 1, "prompts": 2, "group_size": 2, "updates": 1, "lr": 1e-2} | options
    return DistillationLearner(Scorer(net), practice(), method, Training(**settings), nullcontext)


def rows(**fields: Any) -> Rollouts:
    drawn = tiny.rollouts([2, 5, 3, 4], groups=[0, 0, 1, 1])
    prompts = torch.tensor([practice().prompts[p] for p in drawn.problem_ids.tolist()])
    return drawn.with_fields(prompt_ids=prompts, prompt_mask=torch.ones_like(prompts, dtype=torch.bool), **fields)


def divergence(net: Any, teacher: Any, drawn: Rollouts) -> list[torch.Tensor]:
    """KL(S || T) at every token, row by row, from plain forwards."""
    found = []
    for row in range(len(drawn)):
        response, prompt = drawn.response(row), drawn.prompt(row)
        student, goal = (
            torch.log_softmax(model(input_ids=torch.tensor([[*asked, *response]])).logits[0, len(asked) - 1 : -1], -1)
            for model, asked in ((net, prompt), (teacher, [*WORDS, *prompt]))
        )
        found.append((student.exp() * (student - goal.detach())).sum(-1))
    return found


def learnt(made: DistillationLearner, drawn: Rollouts, *, step: int = 0) -> dict[str, Any]:
    batch = GroupBatch(Collected(drawn, drawn, 1, 0), 6)
    return made.learn(batch, TrainingState({}, step=step)).metrics


@pytest.mark.parametrize(
    ("options", "mean"),
    [
        ({}, "tokens"),
        ({"aggregate": "seq-mean-token-mean"}, "rows"),
        ({"form": "top-k", "k": 40}, "tokens"),
        ({"form": "top-k", "k": 1000, "rest": "renormalize"}, "tokens"),
    ],
)
@pytest.mark.parametrize("micro", [12, 10_000])
def test_the_loss_and_its_step_are_those_of_plain_forwards(options, mean, micro) -> None:
    net = tiny.model(spread=2.0)
    plain, drawn = copy.deepcopy(net), rows()
    each = divergence(plain, plain, drawn)
    loss = torch.cat(each).mean() if mean == "tokens" else torch.stack([row.mean() for row in each]).mean()
    gradients = torch.autograd.grad(loss, list(plain.parameters()))
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.01)
    for parameter, gradient in zip(plain.parameters(), gradients, strict=True):
        parameter.grad = gradient
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
    optimizer.step()
    metrics = learnt(learner(net, crisp(**options), micro_batch_tokens=micro), drawn)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert metrics["grad_norm"] == pytest.approx(float(norm), rel=1e-3)
    assert metrics["trained_tokens"] == 14
    gap = max((a - b).abs().max().item() for a, b in zip(net.parameters(), plain.parameters(), strict=True))
    assert gap < 2e-3  # AdamW's first step is a sign: where a gradient is near 0, its size is 1e-2 either way


def test_the_sampled_form_weighs_each_drawn_token_by_its_gap() -> None:
    net = tiny.model(spread=2.0)
    drawn = rows()
    student = [tiny.plain_logp(net, drawn.prompt(row), drawn.response(row)) for row in range(4)]
    teacher = [tiny.plain_logp(net, [*WORDS, *drawn.prompt(row)], drawn.response(row)) for row in range(4)]
    gap = torch.cat(student) - torch.cat(teacher)
    metrics = learnt(learner(net, crisp(form="sampled")), drawn)
    assert metrics["loss"] == pytest.approx(float((gap * torch.cat(student)).mean()), rel=1e-4)
    assert metrics["teacher_gap"] == pytest.approx(float(gap.mean()), rel=1e-4)
    assert metrics["entropy"] > 0 and metrics["teacher_entropy"] > 0


def test_no_verdict_no_group_and_no_padding_enters() -> None:
    drawn = rows()
    lone = drawn.with_fields(group_ids=torch.arange(4))
    wrong = drawn.with_fields(answer_correct=torch.zeros(4, dtype=torch.bool))
    wide = drawn.with_fields(
        **{n: torch.nn.functional.pad(getattr(drawn, n), (0, 3)) for n in
           ("completion_ids", "mask", "train_mask", "logp", "policy_version")}
    )  # fmt: skip
    nets = []
    for batch in (drawn, wrong, lone, wide):
        net = tiny.model()
        learnt(learner(net, crisp()), batch)
        nets.append(list(net.parameters()))
    for other in nets[1:]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(nets[0], other, strict=True))


def test_words_that_a_world_wrote_are_not_learnt() -> None:
    drawn = rows()
    told = drawn.train_mask.clone()
    told[:, 1] = False
    net = tiny.model(spread=2.0)
    each = divergence(net, net, drawn)
    kept = torch.cat([torch.cat([row[:1], row[2:]]) for row in each])
    metrics = learnt(learner(net, crisp()), drawn.with_fields(train_mask=told))
    assert metrics["trained_tokens"] == 10 and metrics["loss"] == pytest.approx(float(kept.mean()), rel=1e-4)


def test_without_words_nothing_is_learnt_and_the_teacher_follows_when_it_is_copied() -> None:
    net = tiny.model()
    empty = build_method("crisp", cap=6, instruction="x", every=2)
    object.__setattr__(empty.teacher, "words", "")
    made = learner(net, empty)
    first = learnt(made, rows())
    assert first["loss"] == 0 and first["grad_norm"] == 0
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=tiny.generator()))
    assert learnt(made, rows(), step=1)["loss"] > 0.001  # the teacher is the student of before
    again = learnt(made, rows(), step=2)
    assert again["teacher_copied"] == 1 and again["loss"] == 0


def test_the_policy_has_its_own_weights_again_and_the_teacher_does_not_move() -> None:
    net = tiny.model()
    made = learner(net, crisp(every=0))
    start = [p.detach().clone() for p in net.parameters()]
    for step in range(3):
        learnt(made, rows(), step=step)
    assert all(torch.equal(a, b) for a, b in zip(start, made.copied, strict=True))
    assert all(p.grad is None for p in made.copied)
    assert any(not torch.equal(a, b) for a, b in zip(start, net.parameters(), strict=True))
    assert {id(p) for p in made.parameters} == {id(p) for p in net.parameters()}


def test_only_right_answers_teach_where_that_is_asked(tmp_path: Path) -> None:
    drawn = rows()
    right = drawn.with_fields(answer_correct=torch.tensor([True, False, True, True]),
                              finished=torch.tensor([True, True, True, False]))  # fmt: skip
    net = tiny.model(spread=2.0)
    each = divergence(net, net, right)
    metrics = learnt(learner(net, crisp(correct_only=True)), right)
    assert metrics["trained_tokens"] == 5
    assert metrics["loss"] == pytest.approx(float(torch.cat([each[0], each[2]]).mean()), rel=1e-4)
    never = tiny.trainer(
        tmp_path, method=crisp(correct_only=True), practice=practice(lambda problem, tokens: False), steps=2
    )
    before = [p.detach().clone() for p in never.policy.parameters()]
    with pytest.warns(match="skipped, no answer of the batch"), pytest.raises(TrainingError, match="2 steps"):
        never.train()
    assert all(torch.equal(a, b) for a, b in zip(before, never.policy.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")
@pytest.mark.parametrize("form", ["full", "top-k", "sampled"])
def test_a_killed_run_goes_on_with_its_teacher(form: str, tmp_path: Path) -> None:
    def run(folder: Path, steps: int) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        made = tiny.trainer(folder, method=crisp(form=form, every=2, k=5), practice=practice(), steps=steps)
        made.train(seen.append)
        return tiny.comparable(seen)

    whole = run(tmp_path / "whole", 4)
    assert [row["teacher_copied"] for row in whole] == [0, 0, 1, 0] and whole[0]["weights_moved"] > 0
    # stopped where the teacher is neither the start nor the student
    assert run(tmp_path / "parts", 1) + run(tmp_path / "parts", 3) + run(tmp_path / "parts", 4) == whole


@pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")
def test_vllm_may_write_what_the_teacher_reads(tmp_path: Path) -> None:
    net = tiny.model()
    net.config.tie_word_embeddings = False
    net.save_pretrained(tmp_path / "m")
    with fake_vllm.installed():
        serving = Serving(tmp_path / "m", torch.device("cpu"), "float32", positions=64, rows=8, cache_bytes=1)
        backend = VllmSampler(net, Served(serving), eos_ids=tiny.EOS, pad_id=0, as_in_folder=True)
        seen: list[dict[str, Any]] = []
        run = tiny.trainer(
            tmp_path / "r", net=net, method=crisp(), practice=practice(), backend=backend, steps=2, updates=1
        )
        run.train(seen.append)
    assert all(row["sampler_gap"] < 1e-5 for row in seen)
    assert seen[1]["weights_moved"] > 0


def test_likeliest_entries_are_chunked_alike() -> None:
    net = tiny.model(spread=2.0)
    whole, few = Scorer(net), Scorer(net, chunk_bytes=4 * tiny.VOCABULARY * 3)
    drawn = rows()
    states = response_states(whole, drawn)[drawn.mask]
    logp, entries = likeliest(whole, states, 7)
    for first, second in zip(likeliest(few, states, 7), (logp, entries), strict=True):
        torch.testing.assert_close(first, second)
    want = torch.log_softmax(net.get_output_embeddings()(states), -1).topk(7)
    torch.testing.assert_close(logp, want.values)
    assert torch.equal(entries, want.indices)


def test_capped_logits_take_top_k_alone() -> None:
    net = tiny.model("gemma2")
    with pytest.raises(UnsupportedModelError, match="capped or scaled.*take form top-k"):
        learner(net, crisp())
    drawn = rows()
    loss = float(torch.cat(divergence(net, net, drawn)).mean())
    assert learnt(learner(net, crisp(form="top-k", k=40)), drawn)["loss"] == pytest.approx(loss, rel=1e-3)


def test_the_teacher_s_prompts_fit_and_differ() -> None:
    method = crisp()
    assert teacher_prompts(practice(), method, 11)[3] == [*WORDS, *tiny.task().prompts[3]]
    with pytest.raises(ConfigError, match="has 5 tokens, 3 of them its words, and the cap is 6, but .* 10 positions"):
        teacher_prompts(practice(), method, 10)
    plain = tiny.task()
    deaf = Task(plain.prompts, plain.grade, instruct=lambda problem, words: list(plain.prompts[problem]))
    with pytest.raises(ConfigError, match="change a prompt by 0 tokens.*knows none of them"):
        teacher_prompts(deaf, method, None)
    graded = build_method("crisp", cap=6)
    with pytest.raises(ConfigError, match="change a prompt by 3 tokens"):  # of 36 words
        teacher_prompts(practice(), graded, None)
    with pytest.raises(ConfigError, match="this task's prompts are fixed"):
        teacher_prompts(plain, method, None)


def test_impossible_options_are_refused_and_odd_ones_warned_of(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="instruction is empty"):
        build_method("crisp", cap=6, instruction=" ")
    with pytest.raises(ConfigError, match="divergence is 'forward' with form sampled"):
        crisp(form="sampled", divergence="forward")
    with pytest.raises(ConfigError, match="temperature is 0.7"):
        tiny.trainer(tmp_path, method=crisp(form="sampled"), practice=practice(), temperature=0.7)
    with pytest.raises(ConfigError, match="takes no advantages"):
        tiny.trainer(tmp_path, method=crisp(), practice=practice(), truncate_importance=2.0)
    with pytest.warns(LengthwiseWarning, match="every is 1, so the teacher follows"):
        tiny.trainer(tmp_path, method=crisp(every=1), practice=practice(), steps=1).train()
