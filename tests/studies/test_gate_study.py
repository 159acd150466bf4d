"""The gate study: its reward and arms by hand, its plan, and what is registered. No run is made here."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch

from lengthwise.engine.gates import probe_rollouts
from studies.gates import condense, page, plan
from studies.gates.run import method_of
from studies.summary import Summary, plan_of

START = round(plan.START_TOKENS[plan.BEYOND])
# Two groups: one all wrong of three lengths, one with a right answer; the last is beyond the start's mean length.
CORRECT = [False, False, False, True, False, False]
LENGTHS = [START // 3, START, START, START, START // 3, 2 * START]
GROUPS = [0, 0, 0, 1, 1, 1]


def batch() -> Any:
    return probe_rollouts(torch.tensor(CORRECT), torch.tensor(LENGTHS), torch.tensor(GROUPS), cap=plan.CAP)


def rewards(arm: str) -> list[float]:
    return [round(value, 3) for value in method_of(arm, 0.3, plan.BEYOND).reward(batch(), {}).tolist()]


@pytest.mark.parametrize(
    ("arm", "paid"),
    [
        ("none", [-0.1, -0.3, -0.3, 0.7, -0.1, -0.3]),
        ("verdicts", [-0.1, -0.3, -0.3, 0.7, -0.1, -0.3]),
        ("right", [0, 0, 0, 0.7, 0, 0]),
        ("solved", [0, 0, 0, 0.7, -0.1, -0.3]),
        ("rate-right", [0, 0, 0, 0.9, 0, 0]),
        ("reversed", [0.1, 0.3, 0.3, 0.7, 0.1, 0.3]),
    ],
)
def test_what_an_arm_pays(arm: str, paid: list[float]) -> None:
    assert rewards(arm) == pytest.approx(paid, abs=2e-3)


@pytest.mark.parametrize(
    ("arm", "first", "second"), [("none", True, True), ("shaped", True, True), ("verdicts", False, True),
                                 ("right", False, True), ("solved", False, True)],
)  # fmt: skip
def test_which_groups_have_a_signal(arm: str, first: bool, second: bool) -> None:
    method = method_of(arm, 0.3, plan.BEYOND)
    credit = method.advantage(method.reward(batch(), {}), batch())
    assert [bool(part.any()) for part in (credit[:3], credit[3:])] == [first, second]
    assert method.measure is not None
    told = method.measure(batch(), {}, credit)
    assert told["all_wrong"] == 0.5 and told["kept_share"] == (0.5 if arm == "verdicts" else 1.0)


def test_the_plan_has_every_arm_and_the_published_ones_with_every_fine() -> None:
    runs = plan.trials()
    assert len({run.name for run in runs}) == len(runs) == 7 * 3 + 3 * 3 + 3 * 2 * 3
    assert not any(one.name in other.name for one in runs for other in runs if one is not other)


def steps(right: list[float], wrong: list[float | None]) -> list[dict[str, Any]]:
    return [
        {"step": n, "accuracy": a, **({} if w is None else {"wrong_tokens": w})}
        for n, (a, w) in enumerate(zip(right, wrong, strict=True), 1)
    ]


def test_the_step_at_which_something_has_halved() -> None:
    # means of five: 100 to step 5, then 80, 60, 40 at step 8; steps without wrong answers do not count
    course = steps([1.0] * 9, [100] * 5 + [0, 0, None, 0])
    assert condense.halved(course, "wrong_tokens") == 9 and condense.halved(course, "accuracy") is None


def run(trial: plan.Trial, accuracy: float, **more: Any) -> dict[str, Any]:
    found = {"accuracy": accuracy, "tokens": 40.0, "wrong_tokens": 30.0}
    halved = {"accuracy": 30, "wrong_tokens": 20, "wrong_decile": 10}
    course = {name: [0.5] for name in ("accuracy", "wrong_tokens", "wrong_decile", "all_wrong")}
    own = {"kept_share": 0.95, "all_wrong": 0.1, "halved": halved, "course": course}
    return {**dataclasses.asdict(trial), "measured": found, "steps": 40, "ended": None, **own, **more}


def summary(**accuracy: float) -> Summary:
    registered = json.loads(plan_of("gates").read_text(encoding="utf-8"))
    ends = {"none": 0.1, "shaped": 0.1, "verdicts": 0.8, "right": 0.8, "solved": 0.8, "rate-right": 0.8,
            "reversed": 0.7} | accuracy  # fmt: skip
    start = {"accuracy": 0.7, "tokens": 117.0, "wrong_tokens": 120.0}
    runs = {f"untouched-{mix}": {"arm": "untouched", "mix": mix, "seed": 0, "measured": start} for mix in plan.LEVELS}
    for one in plan.trials():
        share = 0.5 if one.arm == "verdicts" else 0.95
        dose = {0.1: 0.05, 0.3: 0.0, 0.5: -0.05}[one.fine] if one.arm == "none" else 0
        end = 0.8 if one.mix == plan.TAUGHT else ends[one.arm] + dose
        runs[one.name] = run(one, end, kept_share=share)
    return Summary("gates", [{"commit": "x", "cores": 2, "processor": "p"}], runs, plan=registered)


@pytest.mark.parametrize(
    ("ends", "not_seen"),
    [
        ({}, []),
        ({"none": 0.65}, ["E1"]),
        ({"shaped": 0.2}, ["E2"]),
        ({"right": 0.7}, ["E3"]),
        ({"reversed": 0.6}, ["E6"]),
    ],
)
def test_every_effect_is_judged_by_its_threshold(ends: dict[str, float], not_seen: list[str]) -> None:
    [claims] = page.claims(summary(**ends)).values()
    assert [claim.text[:2] for claim in claims if claim.verdict != "seen"] == not_seen


def test_an_effect_without_all_its_seeds_is_not_run() -> None:
    found = summary()
    del found.runs["fine0.5-none-beyond-seed2"]
    [claims] = page.claims(found).values()
    assert [claim.text[:2] for claim in claims if claim.verdict == "not run"] == ["E4"]
    assert page.sections(found)
