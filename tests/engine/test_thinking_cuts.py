"""Elastic and BRPO: thinking is cut at budgets, closing words are written and not learnt, answers follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_vllm
import pytest
import tiny
import torch

from lengthwise.adapters import method_support
from lengthwise.engine import Sampler
from lengthwise.engine.backends.vllm_engine import Serving
from lengthwise.engine.backends.vllm_sampler import Served, VllmSampler
from lengthwise.engine.batches import Task
from lengthwise.engine.method import Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.thinking_cuts import ClosingTokens, ThinkingCuts, answered
from lengthwise.errors import ConfigError
from lengthwise.methods import build_method

MARK, LEAD = 20, 21
WORDS = ClosingTokens(closing=(MARK, LEAD), mark=(MARK,))


def cuts(*budgets: int, answers: int = 1, answer: int = 4) -> ThinkingCuts:
    return ThinkingCuts(budgets=budgets, closing="mlead", mark="m", answer=answer, answers=answers)


def encode(text: str) -> list[int]:
    return [MARK if letter == "m" else LEAD for letter in text.replace("lead", "l")]


def practice() -> Task:
    plain = tiny.task()
    return Task(plain.prompts, lambda problem, tokens: tokens[-1] % 2 == 0, encode=encode)


def thinkings(*responses: list[int]) -> Rollouts:
    drawn = tiny.rollouts([len(r) for r in responses], groups=[0] * len(responses),
                          finished=[r[-1] in tiny.EOS for r in responses])  # fmt: skip
    ids = torch.zeros_like(drawn.completion_ids)
    for row, response in enumerate(responses):
        ids[row, : len(response)] = torch.tensor(response)
    return drawn.with_fields(completion_ids=ids)


def drawn(*responses: list[int], how: ThinkingCuts) -> Rollouts:
    sampler = Sampler(tiny.model(), eos_ids=tiny.EOS, pad_id=0)
    return answered(sampler, thinkings(*responses), how, WORDS, generator=tiny.generator(), temperature=1.0)


def test_what_did_not_close_is_closed_and_what_did_is_cut_behind_its_mark() -> None:
    found = drawn([2, 3, 4, 5, 6, 7], [2, MARK, 5, 6, 7, 8], [2, 3, tiny.EOS[0]], how=cuts(2, 6))
    assert len(found) == 6 and found.budget.tolist() == [2, 6] * 3
    assert [found.response(row)[: int(found.answer_start[row])] for row in range(6)] == [
        [2, 3, MARK, LEAD], [2, 3, 4, 5, 6, 7, MARK, LEAD],
        [2, MARK], [2, MARK],  # its own answer, drawn anew at each budget
        [2, 3, MARK, LEAD], [2, 3, tiny.EOS[0]],  # ended without a mark: nothing is asked for
    ]  # fmt: skip
    assert found.num_tokens.tolist()[5] == 3 and bool(found.finished[5])
    # an answer has its tokens with what closes the thinking; the third row's mark stands at 1
    assert found.cap.tolist()[:4] == [6, 10, 5, 5]
    assert (found.num_tokens <= found.cap)[:5].all() and found.thinking_tokens.tolist()[5] == 3
    assert found.thinking_ids.unique().numel() == 3


def test_each_drawn_token_is_learnt_once_and_no_written_one_is() -> None:
    found = drawn([2, 3, 4, 5], [2, 3, MARK, 5], how=cuts(2, 4, answers=2))
    column = torch.arange(found.mask.shape[1])
    before = column < found.answer_start[:, None]
    thinking = (found.train_mask & before).sum(1)
    assert thinking.tolist() == [0, 0, 4, 0, 0, 0, 3, 0]
    assert torch.equal(found.train_mask & ~before, found.mask & ~before)
    written = found.mask & (found.completion_ids == LEAD) & before
    assert written.any() and not (found.train_mask & written).any()


def test_the_reward_of_elastic_is_for_right_answers_within_both_budgets() -> None:
    method = build_method("elastic", cap=8, answer=4, mark="m", closing="ml")
    found = drawn([2, 3, 4, 5], [2, 3, MARK, 5], [2, tiny.EOS[0]], how=method.cuts)
    right = found.with_fields(answer_correct=torch.ones(3, dtype=torch.bool), finished=torch.tensor([True, True, True]))
    assert method.reward(right, {}).tolist() == [1, 1, 1]
    assert method.reward(right.with_fields(finished=torch.tensor([False, True, True])), {}).tolist() == [0, 1, 1]
    assert method.cuts == ThinkingCuts(budgets=(4,), closing="ml", mark="m", answer=4)


def brpo(**options: Any) -> Method:
    return build_method("brpo", cap=8, mark="m", closing="ml", answer=2, **options)


def test_brpo_credits_segments_as_its_page_by_hand() -> None:
    """budget.md, section 8: S 3, y = [0, 1, 1] and [0, 0, 1]."""
    method = brpo(budgets=3, answers=1)
    assert method.cuts.budgets == (2, 4, 6)
    how = ThinkingCuts(budgets=(2, 4, 6), closing="ml", mark="m", answer=4)
    found = drawn([2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13], how=how)
    start = found.answer_start
    rewards = torch.tensor([0.0, 1, 1, 0, 0, 1])
    credit = method.advantage(rewards, found)
    want = [0.1667, 0.1667, 0.3333, 0.3333, 0.0741, 0.0741]
    assert credit[2, :6].tolist() == pytest.approx(want, abs=5e-5)
    assert credit[5, :6].tolist() == pytest.approx([-0.1667, -0.1667, 0, 0, 0.2222, 0.2222], abs=5e-5)
    assert credit[[0, 1, 3, 4], :2].abs().sum() == 0 and credit[~found.train_mask].abs().sum() == 0
    answers = [credit[row, int(start[row])].item() for row in range(6)]
    assert answers == pytest.approx([0, 0.5, 0, 0, -0.5, 0])  # one answer a cut: against the group's at this budget
    order = torch.tensor([3, 0, 5, 1, 4, 2])  # rows may come in any order
    assert torch.allclose(method.advantage(rewards[order], found.select(order)), credit[order])
    two = brpo(budgets=1, answers=2)
    pair = drawn([2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13], how=cuts(6, answers=2))
    credit = two.advantage(torch.tensor([1.0, 0, 1, 1]), pair)
    assert [credit[row, 8].item() for row in range(4)] == pytest.approx([0.5, -0.5, 0, 0])


def test_brpo_scores_one_mark_and_no_other_answer() -> None:
    method = brpo(budgets=1, answers=1)
    found = drawn([2, 3, 4, 5, 6, 7], [2, 3, tiny.EOS[0]], how=method.cuts)
    right = found.with_fields(answer_correct=torch.ones(2, dtype=torch.bool), finished=torch.ones(2, dtype=torch.bool))
    right = right.with_fields(thinking_tokens=torch.tensor([6, 3]), num_tokens=found.num_tokens)
    assert method.reward(right, {}).tolist() == [1, 0]


@pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")
@pytest.mark.parametrize("name", ["elastic", "brpo"])
def test_both_are_trained_and_go_on_after_a_kill(name: str, tmp_path: Path) -> None:
    options = {"budgets": 2, "answers": 2} if name == "brpo" else {}
    method = build_method(name, cap=8, answer=4, mark="m", closing="ml", **options)

    def run(folder: Path, steps: int, **given: Any) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        tiny.trainer(folder, method=method, practice=practice(), steps=steps, **given).train(seen.append)
        return tiny.comparable(seen)

    whole = run(tmp_path / "whole", 2)
    assert whole[0]["weights_moved"] > 0 and whole[0]["sampler_gap"] < 0.5
    assert whole[0]["sampled_tokens"] < 16 * 8 * (4 if name == "brpo" else 1)
    assert run(tmp_path / "parts", 1) + run(tmp_path / "parts", 2) == whole


def test_vllm_answers_in_a_second_request(tmp_path: Path) -> None:
    net = tiny.model()
    net.config.tie_word_embeddings = False
    net.save_pretrained(tmp_path)
    with fake_vllm.installed():
        serving = Serving(tmp_path, torch.device("cpu"), "float32", positions=64, rows=8, cache_bytes=1)
        backend = VllmSampler(net, Served(serving), eos_ids=tiny.EOS, pad_id=0, as_in_folder=True)
        found = answered(
            backend, thinkings([2, 3, 4, 5]), cuts(2, 4), WORDS, generator=tiny.generator(), temperature=1.0
        )
    assert found.response(0)[:4] == [2, 3, MARK, LEAD] and (found.num_tokens > found.answer_start).all()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("elastic", {"answer": 8}, "answer is 8 of a cap of 8, which leaves no thinking"),
        ("elastic", {"closing": "so:"}, "must hold the mark once"),
        ("brpo", {"budgets": 9}, "budgets is 9, but cap 8 less answer 1 leaves 7"),
    ],
)
def test_impossible_options_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_method(name, cap=8, **options)


def test_a_model_that_knows_no_mark_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    method = build_method("elastic", cap=8, answer=4, mark="m", closing="ml")
    with pytest.raises(ConfigError, match="this task knows no words"):
        tiny.trainer(tmp_path, method=method)
    deaf = Task(tiny.task().prompts, tiny.task().grade, encode=lambda text: [])
    with pytest.raises(ConfigError, match="give the options mark, which ends this model's thinking"):
        tiny.trainer(tmp_path, method=method, practice=deaf)
    short = build_method("elastic", cap=8, answer=2, mark="m", closing="ml")
    with pytest.raises(ConfigError, match="answer is 2 tokens, and the closing words alone are 2"):
        tiny.trainer(tmp_path, method=short, practice=practice())
    for engine in method_support.ENGINES:
        assert "draw whole responses" in (method_support.why_not(engine, method) or "")
