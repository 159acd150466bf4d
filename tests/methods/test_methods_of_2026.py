"""The methods of 2026 pay, credit, learn and remember what their pages say, by hand; each is trained once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from lengthwise.engine import LossInputs
from lengthwise.engine.batches import Task
from lengthwise.engine.gates import order_warning, probe_rollouts
from lengthwise.engine.method import Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.methods import build_method


def answers(right: list[int], tokens: list[int], groups: list[int] | None = None) -> Rollouts:
    ids = torch.tensor(groups or [0] * len(right))
    return probe_rollouts(torch.tensor(right, dtype=torch.bool), torch.tensor(tokens), ids, cap=8000)


def credit(method: Method, rollouts: Rollouts, state: dict[str, Any] | None = None) -> tuple[list[float], list[float]]:
    rewards = method.reward(rollouts, state or method.initial_state())
    return rewards.tolist(), method.advantage(rewards, rollouts).tolist()


def near(*values: float) -> Any:
    return pytest.approx(values, abs=6e-5)


def test_gr3_divides_by_relative_length():
    plain, right = (build_method("gr3", cap=8000, gate=gate) for gate in ("none", "right"))
    rewards, advantages = credit(plain, answers([1, 1, 1, 0], [1000, 2000, 4000, 1000]))
    assert rewards == near(0.8696, 0.7692, 0.6250, 0) and advantages == near(0.3036, 0.2033, 0.0591, -0.5659)
    rewards, advantages = credit(plain, answers([1, 1, 1, 0], [1000, 2000, 4000, 9000]))
    assert rewards == near(0.9302, 0.8696, 0.7692, 0) and advantages == near(0.2880, 0.2273, 0.1270, -0.6423)
    large = build_method("gr3", cap=8000, gate="none", alpha=2.0)  # pushes a right answer down
    assert credit(large, answers([1, 1, 0, 0], [1000, 9000, 500, 500]))[1] == near(0.4011, -0.0453, -0.1779, -0.1779)
    # By default the mean is that of right answers, 7000/3, and a long wrong one lifts nobody.
    want = near(*(1 / (1 + 0.3 * n * 3 / 7000) for n in (1000, 2000, 4000)), 0)
    assert credit(right, answers([1, 1, 1, 0], [1000, 2000, 4000, 9000]))[0] == want


def test_the_linear_penalty_is_scaled_by_the_pass_rate():
    rows = answers([1, 1, 0, 0], [2000, 6000, 1000, 7000])
    rewards, advantages = credit(build_method("linear-penalty", cap=8000, gate="none"), rows)
    assert rewards == near(0.9688, 0.9062, -0.0156, -0.1094) and advantages == near(0.5312, 0.4688, -0.4531, -0.5469)
    assert credit(build_method("linear-penalty", cap=8000), rows)[1] == near(0.5, 0.4375, -0.4688, -0.4688)
    by_tokens = build_method("linear-penalty", cap=8000, gate="none", baseline="tokens")
    assert credit(by_tokens, rows)[1] == near(0.5566, 0.4941, -0.4277, -0.5215)
    assert credit(by_tokens, answers([0, 0], [10, 70]))[1] == [0, 0]


def test_the_group_bonus_places_thinking_and_answer_apart():
    three = answers([1, 0, 1], [400, 1000, 1600]).with_fields(thinking_tokens=torch.tensor([400, 1000, 1600]))
    method = build_method("group-bonus", cap=8000, gate="none", thinking_weight=0.3, answer_weight=0.3)
    assert credit(method, three)[0] == near(1.15, 0, 0.85)
    mixed = answers([1, 1], [30, 30]).with_fields(thinking_tokens=torch.tensor([10, 20]))
    apart = build_method("group-bonus", cap=8000, thinking_weight=0.4, answer_weight=0.1)
    assert credit(apart, mixed)[0] == near(1 + 0.2 - 0.05, 1 - 0.2 + 0.05)
    four = answers([1, 0, 0, 0], [2000, 100, 2000, 2000])
    four = four.with_fields(thinking_tokens=four.num_tokens)
    steep = build_method("group-bonus", cap=8000, gate="none", thinking_weight=0.5)
    assert credit(steep, four)[0] == near(0.875, 0.375, -0.125, -0.125)


def test_effort_pays_marked_prompts_within_a_budget_and_compares_them_alone():
    method = build_method("effort", cap=8000, gate="none", weight=0.6, budget=2000)
    rows = answers([1, 1, 1, 0, 0, 1], [500, 2000, 3000, 3000, 500, 500])
    free = torch.tensor([False] * 5 + [True])
    rewards, advantages = credit(method, rows.with_fields(is_long=free))
    assert rewards == near(1.45, 1, 0.7, -0.3, 0, 1)
    assert advantages == near(*(value - 2.85 / 5 for value in rewards[:5]), 0)
    asked = method.prompts(lambda words: [len(words)])
    assert [one.is_long for one in asked] == [True, False] and asked[1].prompt == [
        len("{reasoning effort: efficient}\n")
    ]
    assert len(build_method("effort", cap=8000, marked="all").prompts(lambda words: [1])) == 1
    with pytest.raises(ConfigError, match="marker is empty"):
        build_method("effort", cap=8000, marker=" ")


def test_quantile_slack_fines_what_is_long_among_right_answers():
    method = build_method("quantile-slack", cap=8000)
    rewards, advantages = credit(method, answers([1, 1, 1, 0, 1], [400, 600, 1000, 5000, 3000]))
    assert rewards == near(1, 1, 0.9311, 0, 0.8)
    mean = sum(rewards) / 5
    assert advantages == near(*(value - mean for value in rewards))
    assert credit(method, answers([1, 0], [3000, 10]))[0] == [1, 0]  # one right answer is not compared


def test_gated_decay_keeps_hard_prompts():
    method = build_method("gated-decay", cap=40_000)
    rows = answers([1, 1, 1, 0], [8000, 24000, 40000, 3000])
    assert credit(method, rows)[0] == near(1, 0.8375, 0.7103, 0)


def test_laconic_moves_its_price_until_the_target_is_met():
    method = build_method("laconic", cap=4096, target=1500, rate=0.02, gate="none")
    rows = answers([1, 1, 1, 0, 0, 0], [1500, 3000, 4096, 800, 3000, 4096])
    assert credit(method, rows, {"multiplier": 0.1})[0] == near(1, 0.9, 0.7269, 0, -0.1, -0.2731)
    state = method.initial_state()
    seen = []
    for tokens in ([3000, 2000], [2400, 1800], [1200, 1000]):
        state = method.update_state(state, answers([1, 0], tokens))
        seen.append(json.loads(json.dumps(state))["multiplier"])
    assert seen == near(0.01333, 0.02133, 0.016)
    assert order_warning(method, 4096) is None  # most + hit are below what being right is worth
    assert order_warning(build_method("laconic", cap=4096, gate="none", most=2.0, high=2.0), 4096) is not None
    full = {"multiplier": 0.1}
    assert method.measure is not None and method.measure(rows, full, torch.zeros(6))["target_missed"] == 1
    with pytest.raises(ConfigError, match="target is 4096 and cap 4096, so no length would ever cost"):
        build_method("laconic", cap=4096, target=4096)
    with pytest.raises(ConfigError, match="start is 0.5, which is not from low 0.0 to high 0.1"):
        build_method("laconic", cap=4096, start=0.5)


def within(*short: int) -> list[int]:
    """Tokens of answers that keep to a target of 100, or do not."""
    return [50 if one else 150 for one in short]


@pytest.mark.parametrize(
    ("right", "short", "conditioned", "want"),
    [
        ([0, 1, 0, 1], [1, 1, 0, 0], False, [0, 1.2247, -1.2247, 0]),
        ([1, 1, 0, 0], [0, 0, 1, 1], False, [0, 0, 0, 0]),
        ([1, 1, 0, 0], [0, 0, 1, 1], True, [0.8659, 0.8659, -0.8659, -0.8659]),
        ([1, 1, 1, 0], [1, 0, 0, 1], False, [1.4856, -0.3981, -0.3981, -0.6894]),
        ([1, 1, 1, 0], [1, 0, 0, 1], True, [1.2247, 0, 0, -1.2247]),
        ([0, 0, 0], [1, 0, 0], False, [1.1546, -0.5773, -0.5773]),
        ([0, 0, 0], [1, 0, 0], True, [0, 0, 0]),
    ],
)
def test_gdpo_normalises_each_reward_by_itself(right, short, conditioned, want):
    method = build_method("gdpo", cap=200, target=100, when_right=conditioned)
    rows = answers(right, within(*short))
    assert credit(method, rows)[1] == near(*want)


def test_gdpo_weighs_what_is_normalised_and_looks_at_verdicts_alone():
    rows = answers([1, 0, 0, 1, 1, 1], within(1, 0, 1, 1, 0, 0), [0, 0, 0, 1, 1, 1])
    method = build_method("gdpo", cap=200, target=100, when_right=False, weight_short=0.25)
    assert credit(method, rows)[1] == near(1.7514, -1.1676, -0.5838, 0.3892, -0.1946, -0.1946)
    assert method.keep is not None and method.keep(rows).tolist() == [True] * 3 + [False] * 3
    numbers = method.measure(rows, {}, method.advantage(method.reward(rows, {}), rows))
    assert numbers["reward_right"] == pytest.approx(4 / 6) and numbers["spread_right"] == 0.5
    assert numbers["spread_short"] == 1 and numbers["wrong_above_right"] == 0
    with pytest.raises(ConfigError, match="weight_right, weight_short and weight_spare are all 0"):
        build_method("gdpo", cap=200, weight_right=0, weight_short=0)


def test_on_policy_sft_is_the_likelihood_of_what_was_right_and_finished():
    rows = tiny.rollouts([2, 5, 3, 4], groups=[0, 0, 0, 0], correct=[True, True, False, True],
                         finished=[True, True, True, False])  # fmt: skip
    logp = torch.tensor([[-0.5] * 2 + [0] * 3, [-0.2] * 5, [-1.0] * 3 + [0] * 2, [-1.0] * 4 + [0]])
    for divisor, want, slope in (("longest", 0.2, -0.1), ("token-mean", 2 / 7, -1 / 7), ("row", 0.35, -0.25)):
        method = build_method("on-policy-sft", cap=5, divisor=divisor)
        leaf = logp.clone().requires_grad_()
        signal = method.advantage(method.reward(rows, {}), rows)
        assert signal.tolist() == [1, 1, 0, 0]
        loss, stats = method.loss(LossInputs(leaf, logp, signal, rows.mask, rows, method.normaliser(rows)))
        assert float(loss) == pytest.approx(want) and float(stats["tokens"]) == 7
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert gradient[0, 0].item() == pytest.approx(slope) and gradient[2:].abs().sum() == 0
    assert method.measure(rows, {}, signal) == {"kept_share": 0.5, "prompts_without": 0, "longest_kept": 5}


def test_on_policy_sft_refuses_another_temperature(tmp_path):
    with pytest.raises(ConfigError, match="temperature is 0.6, but method 'on-policy-sft'.* leave it at 1"):
        tiny.trainer(tmp_path, method=build_method("on-policy-sft", cap=6), temperature=0.6)


def test_on_policy_sft_leaves_the_weights_alone_where_nothing_is_kept(tmp_path):
    never = Task(prompts=tiny.task().prompts, grade=lambda problem, tokens: False)
    seen: list[dict[str, Any]] = []
    run = tiny.trainer(tmp_path, method=build_method("on-policy-sft", cap=6), practice=never, steps=1)
    with pytest.warns(match="the weights did not move"):
        run.train(seen.append)
    assert seen[0]["loss"] == 0 and seen[0]["kept_share"] == 0 and seen[0]["prompts_without"] == 1


NEW = ["gr3", "linear-penalty", "group-bonus", "effort", "quantile-slack", "gated-decay", "laconic", "gdpo",
       "on-policy-sft"]  # fmt: skip


@pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")
@pytest.mark.parametrize("name", NEW)
def test_each_is_trained_and_goes_on_after_a_kill_as_if_it_had_not_stopped(name: str, tmp_path: Path):
    def instructed(problem: int, words: str) -> list[int]:
        return [3, *tiny.task().prompts[problem]] if words else list(tiny.task().prompts[problem])

    plain = tiny.task()
    practice = Task(plain.prompts, plain.grade, instruct=instructed, thinking=lambda tokens: len(tokens) // 2)
    options = {"rate": 0.5} if name == "laconic" else {"marker": "x"} if name == "effort" else {}
    method = build_method(name, cap=6, **options)

    def run(folder: Path, steps: int) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        tiny.trainer(folder, method=method, practice=practice, steps=steps, updates=1).train(seen.append)
        return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in seen]

    whole = run(tmp_path / "whole", 2)
    assert whole[0]["weights_moved"] > 0
    assert run(tmp_path / "parts", 1) + run(tmp_path / "parts", 2) == whole
    if name == "laconic":
        assert whole[0]["multiplier"] == 0 and whole[1]["multiplier"] != whole[0]["multiplier"]
