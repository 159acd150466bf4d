"""Gates over every method that has a length term: what must hold whatever the options, lengths and verdicts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import tiny
import torch

from lengthwise.engine.gates import order_warning, probe_rollouts, worst_gap
from lengthwise.engine.method import Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError, LengthwiseWarning
from lengthwise.methods import METHODS, build_method, options_of
from lengthwise.methods.description import describe
from lengthwise.objectives import order_gap
from lengthwise.objectives.gates import GATES

LONGEST = 100_000
LOUD: dict[str, dict[str, Any]] = {
    "a-dlp": {"start": 1.0},
    "alp": {"beta": 1.0},
    "effort": {"weight": 100.0, "budget": 100},
    "gated-decay": {"beta": 100.0},
    "gr3": {"alpha": 100.0},
    "group-bonus": {"thinking_weight": 10.0, "answer_weight": 10.0, "thinking_bonus": 5.0, "answer_bonus": 5.0},
    "grpo-lambda": {"fraction": 1.0, "alpha": 0.9},
    "hapo": {"weight": 100.0},
    "kimi": {"weight": 1000.0},
    "l1-exact": {"alpha": 1.0},
    "l1-max": {"alpha": 1.0},
    "laconic": {"most": 100.0, "high": 100.0, "hit": 10.0, "target": 100},
    "laser": {"bonus": 100.0},
    "laser-d": {"bonus": 100.0},
    "laser-de": {"bonus": 100.0},
    "linear-penalty": {"coef": 100.0},
    "linear-price": {"price": 1.0},
    "quantile-slack": {"rate": 100.0, "most": 100.0, "least": 0.0},
    "rloo-lp": {"alpha": 0.9},
    "shorter-better": {"beta": 1.0},
}
"""Each length term as strong as anybody could ask for: a price of 1 a token."""
SILENT: dict[str, dict[str, Any]] = {
    "a-dlp": {"start": 0.0},
    "alp": {"beta": 0.0},
    "effort": {"weight": 0.0},
    "gated-decay": {"beta": 0.0},
    "gr3": {"alpha": 0.0},
    "group-bonus": {"thinking_weight": 0.0, "answer_weight": 0.0, "thinking_bonus": 0.0, "answer_bonus": 0.0},
    "grpo-lambda": {"alpha": 0.0},
    "hapo": {"weight": 0.0},
    "kimi": {"weight": 0.0},
    "l1-exact": {"alpha": 0.0},
    "laconic": {"most": 0.0, "hit": 0.0},
    "laser": {"bonus": 0.0},
    "linear-penalty": {"coef": 0.0},
    "linear-price": {"price": 0.0},
    "quantile-slack": {"rate": 0.0},
    "rloo-lp": {"alpha": 0.0},
    "shorter-better": {"beta": 0.0},
}
"""Each length term switched off."""
TERMED = sorted(name for name in METHODS if "gate" in options_of(name))
REFUSED = {("soft-overlong", "right"), ("soft-overlong", "rate-right")}
PAIRS = [(name, kind) for name in TERMED for kind in GATES if (name, kind) not in REFUSED]
LOOPS = sorted(set(METHODS) - {"ada-r1", "t-ppo", "ppo", "adaptive"})
"""Those without windows and modes, whose rewards never read a length."""


def loud(name: str, kind: str, **options: Any) -> Method:
    return build_method(name, cap=LONGEST, **{**LOUD.get(name, {}), "gate": kind, "floor": 0.1, **options})


def drawn(seed: int = 0, groups: int = 7, size: int = 4, longest: int = 3_000) -> Rollouts:
    """Groups of random lengths, most of them mixed; the first is all wrong and the last all right."""
    dice = torch.Generator().manual_seed(seed)
    rows = groups * size
    right = torch.rand(rows, generator=dice) < 0.5
    right[:size], right[-size:] = False, True
    lengths = (longest ** torch.rand(rows, generator=dice, dtype=torch.float64)).long()
    return probe_rollouts(right, lengths, torch.arange(rows) // size, cap=LONGEST)


def state_of(method: Method, rollouts: Rollouts) -> Mapping[str, Any]:
    """A state with something to remember: the loudest one where there is one, else that after a batch."""
    assert method.gate is not None
    return method.gate.loudest or (
        method.initial_state() if method.name == "a-dlp" else method.update_state(method.initial_state(), rollouts)
    )


def paid(method: Method, rollouts: Rollouts) -> torch.Tensor:
    return method.reward(rollouts, state_of(method, drawn(9))).double()


def groups_of(method: Method, rollouts: Rollouts) -> torch.Tensor:
    assert method.gate is not None
    return method.gate.groups(rollouts)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_with_the_floor_no_wrong_answer_is_ever_paid_more_than_a_right_one(name, kind):
    method = loud(name, kind)
    for seed in range(3):
        rollouts = drawn(seed, longest=LONGEST)
        assert order_gap(paid(method, rollouts), rollouts.correct, groups_of(method, rollouts)) > 0


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if pair[1] != "none"])
def test_no_group_that_is_all_wrong_trains_on_length_alone(name, kind):
    method, rollouts = loud(name, kind), drawn()
    assert paid(method, rollouts)[:4].unique().numel() == 1
    assert method.gate.measured(rollouts, state_of(method, rollouts))["gate_all_wrong_spread"] == 0


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if pair[1] in ("right", "rate-right")])
def test_behind_right_alone_a_wrong_answer_s_length_moves_no_reward(name, kind):
    method, rollouts = loud(name, kind), drawn()
    other = torch.where(rollouts.correct, rollouts.num_tokens, drawn(5).num_tokens)
    moved = probe_rollouts(rollouts.correct, other, rollouts.group_ids, cap=LONGEST)
    assert torch.equal(paid(method, rollouts), paid(method, moved))


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if pair[1] != "none"])
def test_where_a_gate_is_open_the_reward_is_the_paper_s(name, kind):
    rollouts = drawn()
    gated, plain = (paid(loud(name, k, floor="off"), rollouts) for k in (kind, "none"))
    assert torch.equal(gated[-4:], plain[-4:])  # an all-right group
    if kind == "solved":
        share = torch.zeros(7).index_add(0, rollouts.group_ids, rollouts.correct.float())
        assert torch.equal(gated[share[rollouts.group_ids] > 0], plain[share[rollouts.group_ids] > 0])


@pytest.mark.parametrize("name", sorted(SILENT))
def test_without_a_length_term_all_gates_agree(name):
    rollouts = drawn()
    found = [
        paid(loud(name, kind, floor="off", **SILENT[name]), rollouts) for n, kind in PAIRS if n == name
    ]  # fmt: skip
    assert len(found) > 2 and all(torch.equal(found[0], one) for one in found)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_the_order_of_rows_changes_nothing(name, kind):
    method, rollouts = loud(name, kind), drawn(2)
    order = torch.randperm(len(rollouts), generator=tiny.generator(1))
    torch.testing.assert_close(paid(method, rollouts.select(order)), paid(method, rollouts)[order])


@pytest.mark.parametrize("name", LOOPS)
def test_groups_are_kept_by_verdicts_alone(name):
    method, rollouts = build_method(name, cap=LONGEST), drawn()
    other = probe_rollouts(rollouts.correct, drawn(3).num_tokens, rollouts.group_ids, cap=LONGEST)
    if method.keep is not None:
        assert torch.equal(method.keep(rollouts), method.keep(other))


@pytest.mark.parametrize("name", LOOPS)
def test_a_method_says_truly_whether_it_pays_wrong_answers_by_length(name):
    """By its formula, of two wrong answers of a mixed group."""
    given = {"gate": "none"} if name in TERMED else {}
    method = build_method(name, cap=LONGEST, **LOUD.get(name, {}), **given)
    said = describe(name).wrong_by_length
    differs = False
    for lengths in ([300, 100, 60_000], [300, 100, 99_000], [300, 500, 60_000]):
        rollouts = probe_rollouts(
            torch.tensor([True, False, False]), torch.tensor(lengths), torch.zeros(3, dtype=torch.long), cap=LONGEST
        )
        state: Mapping[str, Any] = {"targets": [200] * 3} if name.startswith("laser-d") else method.initial_state()
        if name == "hapo":
            state = {"shortest": {"0": 400}}
        if method.gate is not None and method.gate.loudest is not None:
            state = method.gate.loudest
        rewards = method.reward(rollouts, state)
        differs = differs or bool(rewards[1] != rewards[2])
    assert differs == (said is not None), name


# gates.md, section 8: what a method pays behind each gate, by hand.


def answers(tokens: list[int], right: list[int], cap: int) -> Rollouts:
    return probe_rollouts(
        torch.tensor(right, dtype=torch.bool), torch.tensor(tokens), torch.zeros(len(tokens), dtype=torch.long), cap=cap
    )


PRICED = ("linear-price", {"price": 1e-4}, [6000, 14000, 500, 9000], [1, 1, 0, 0], 16_000)
KIMI = ("kimi", {}, [200, 800, 300, 1000], [1, 1, 0, 0], 1000)
COSINE = ("cosine", {}, [100, 900, 100, 900], [1, 1, 0, 0], 1000)
SHORTER = ("shorter-better", {}, [723, 13050, 1329], [1, 1, 0], 16_000)
EXACT = ("l1-exact", {"target": 8000}, [383, 8040], [1, 0], 16_000)


@pytest.mark.parametrize(
    ("case", "kind", "floor", "want"),
    [
        (PRICED, "none", "off", [0.40, -0.40, -0.05, -0.90]),
        (PRICED, "right", "off", [0.40, -0.40, 0, 0]),
        (PRICED, "right", 0.1, [0.40, 0.10, 0, 0]),
        (PRICED, "solved", "off", [0.40, -0.40, -0.05, -0.90]),
        (PRICED, "solved", 0.1, [0.40, 0.05, -0.05, -0.90]),
        (PRICED, "rate", "off", [0.70, 0.30, -0.025, -0.45]),
        (PRICED, "rate-right", "off", [0.70, 0.30, 0, 0]),
        (KIMI, "none", "off", [1.5, 0.75, 0, -0.5]),
        # extremes over right rows alone (section 3); the page's section 8 has .75 and .875, over all rows
        (KIMI, "right", "off", [1.5, 0.5, 0, 0]),
        (KIMI, "rate-right", "off", [1.25, 0.75, 0, 0]),
        (COSINE, "none", "off", [0.9878, 0.5122, -0.9878, -0.5122]),
        (COSINE, "right", "off", [0.9878, 0.5122, -1, -1]),
        (SHORTER, "none", "off", [2, -10.327, -0.606]),
        (SHORTER, "right", "off", [2, -10.327, 0]),
        (SHORTER, "right", 0.1, [2, 0.2, 0]),
        (EXACT, "none", "off", [-1.2851, -0.0120]),
        (EXACT, "right", 0.1, [0.1, 0]),
    ],
)
def test_a_method_pays_behind_a_gate_what_the_page_says(case, kind, floor, want):
    name, options, tokens, right, cap = case
    method = build_method(name, cap=cap, gate=kind, floor=floor, **options)
    got = method.reward(answers(tokens, right, cap), method.initial_state())
    torch.testing.assert_close(got.double(), torch.tensor(want, dtype=torch.float64), atol=5e-5, rtol=0)


def test_two_right_answers_can_be_asked_for():
    shut = build_method("linear-price", cap=16_000, gate="right", min_right=2)
    assert shut.reward(answers([6000, 500], [1, 0], 16_000), {}).tolist() == [1, 0]


# What a user is told.


@pytest.mark.parametrize(
    ("name", "cap", "warned"),
    [
        ("l1-exact", 16_000, True), ("shorter-better", 16_000, True), ("linear-price", 16_000, True),
        ("linear-price", 1_000, False), ("l1-exact", 1_000, False), ("shorter-better", 1_000, False),
        ("kimi", 16_000, False), ("alp", 16_000, False), ("cosine", 16_000, False), ("l1-max", 16_000, False),
    ],
)  # fmt: skip
def test_a_method_warns_where_a_wrong_answer_could_be_paid_more(name, cap, warned):
    """gates.md, section 6: with their defaults three of them at a cap of 16,000, none at 1,000."""
    method = build_method(name, cap=cap)
    assert (order_warning(method, cap) is not None) == warned
    assert order_warning(build_method(name, cap=cap, gate="right"), cap) is None
    assert (worst_gap(method, cap) < 0) == warned


def test_the_way_out_is_one_that_the_method_has():
    said = order_warning(build_method("gdpo", cap=64, when_right=False, weight_spare=1.0), 64)
    assert said is not None and "--option when_right=true" in said and "--gate" not in said
    for name in LOOPS:
        gate = build_method(name, cap=64).gate
        assert gate is None or ("--gate" in gate.way_out) == ("gate" in options_of(name))


def test_a_method_without_a_length_term_says_nothing():
    assert all(order_warning(build_method(name, cap=64), 64) is None for name in LOOPS if name not in TERMED)


def test_training_warns_and_logs_what_the_gate_did(tmp_path):
    logged: list[dict[str, Any]] = []
    run = tiny.trainer(tmp_path / "a", method=build_method("linear-price", cap=6, price=0.5), steps=1)
    with pytest.warns(LengthwiseWarning, match=r"a cap of 6, method 'linear-price' can pay a wrong answer .* --gate"):
        run.train(logged.append)
    assert logged[0]["gate_changed_share"] == 0
    run = tiny.trainer(tmp_path / "b", method=build_method("linear-price", cap=6, price=0.5, gate="right"), steps=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*can pay a wrong answer.*")
        run.train(logged.append)
    assert logged[1]["gate_changed_share"] > 0 and logged[1]["gate_all_wrong_spread"] == 0
    assert logged[1]["gate_order_gap"] > 0


@pytest.mark.parametrize("kind", ["right", "rate-right"])
def test_soft_overlong_refuses_a_gate_that_takes_its_fine_away(kind):
    with pytest.raises(ConfigError, match=f"gate is '{kind}', but soft-overlong fines answers that are cut"):
        build_method("soft-overlong", cap=6, gate=kind)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"gate": "rihgt"}, "gate"), ({"floor": 2.0}, "floor"), ({"min_right": 0}, "min_right")],
)
def test_a_wrong_gate_is_refused_by_name(options, words):
    with pytest.raises(ConfigError, match=words):
        build_method("kimi", cap=6, **options)
