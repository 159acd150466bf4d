"""The study of recent methods and combinations: its plan, its combinations by hand, and what is registered."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch

from lengthwise.engine.gates import probe_rollouts
from lengthwise.engine.method import Method
from lengthwise.engine.model_folders import load_policy
from lengthwise.errors import ConfigError
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import build_method, maker_of
from studies.lab.plan import Trial
from studies.lab.run import world_of
from studies.recent import combined, page, plan, run
from studies.summary import Summary, load, plan_of

KNOBS = {
    **{name: knob for name, (knob, _, _) in plan.OPTIONS.items()},
    **plan.LENGTH_KNOBS,
    **{name: knob for name, (knob, _) in plan.STEP_KNOBS.items()},
}


def test_the_plan_has_every_method_at_four_settings_in_two_worlds_with_three_seeds() -> None:
    found = plan.trials()
    assert len({trial.name for trial in found}) == len(found)
    for method in KNOBS:
        own = [trial for trial in found if trial.method == method]
        worlds = {trial.world.removesuffix("-modes") for trial in own}
        assert len(own) == 24 and worlds == set(plan.WORLDS) and {trial.seed for trial in own} == {0, 1, 2}
    assert 1 <= len(combined.COMBINED) <= 8
    firsts = [trial.seed for trial in found]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("method", KNOBS)
def test_settings_are_those_that_the_method_names(method: str) -> None:
    knob = maker_of(method).knob
    assert knob is not None and knob.option == KNOBS[method]
    if method in plan.OPTIONS:
        assert plan.OPTIONS[method][1] == knob.values
    elif method in plan.STEP_KNOBS:
        assert knob.values == ("0.5*steps", "0.2*steps", "0.1*steps", 0)
        assert [plan.setting(method, "witnesses", 0, place).options["every"] for place in range(4)] == [40, 16, 8, 0]
    else:
        shares = [float(str(value).removesuffix("L")) for value in knob.values]
        assert plan.LENGTHS["witnesses"] == [round(share * plan.UNTOUCHED["witnesses"]) for share in shares]


def test_every_run_names_a_method_and_options_that_there_are() -> None:
    for trial in plan.method_trials(0):
        assert isinstance(build_method(trial.method, cap=trial.cap or 96, **trial.options), Method), trial.name


def test_untouched_lengths_are_those_of_the_lab_study() -> None:
    runs = load("lab").runs
    for world, tokens in plan.UNTOUCHED.items():
        assert runs[f"base-{world}"]["measured"]["test"]["tokens"] == pytest.approx(tokens, abs=0.06)


def test_shares_of_phases_add_up() -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        combined.Combination(((combined.priced, 0.5),))


@pytest.mark.parametrize("name", combined.COMBINED)
def test_every_combination_can_be_made(name: str) -> None:
    for make, _ in combined.COMBINED[name].phases:
        assert isinstance(make(world_of(combined.COMBINED[name].world)), Method)


def test_a_state_is_prompt_readings_tally_and_last_word() -> None:
    """Tokens 8 and 9 are tallies. Rows of two prompts: 5 and 6."""
    rollouts = probe_rollouts(torch.tensor([True] * 3), torch.tensor([4] * 3), torch.tensor([0, 1, 2]), cap=9)
    words = torch.tensor([[1, 8, 1, 9], [2, 8, 1, 9], [1, 8, 1, 9]])
    rollouts = rollouts.with_fields(completion_ids=words, prompt_ids=torch.tensor([[5], [5], [6]]))
    found = combined.states(rollouts, torch.tensor([8, 9]))
    assert found[0, 0] == found[1, 0] and found[0, 0] != found[2, 0]  # nothing before it but the prompt
    assert found[0, 1] != found[1, 1]  # other words just before
    assert found[0, 2] == found[1, 2] and found[0, 3] == found[1, 3]  # one reading, tally 8
    assert len(found[0].unique()) == 4


def test_credit_is_what_others_in_the_state_did_not_get() -> None:
    """Two rows of one prompt, rewards 1 and 0, alike up to the first tally and not behind it."""
    rollouts = probe_rollouts(torch.tensor([True, False]), torch.tensor([3, 3]), torch.tensor([0, 0]), cap=9)
    rollouts = rollouts.with_fields(completion_ids=torch.tensor([[1, 8, 1], [1, 9, 1]]))
    found = combined.by_state(torch.tensor([1.0, 0.0]), rollouts, tallies=torch.tensor([8, 9]))
    # First two tokens: the other row's 0 once and the prompt's mean without this row, 0, twice: baseline 0 of 3.
    # Third: nobody else stands there, so the prompt's mean alone. For the second row the same with 1.
    assert found.tolist() == [[1, 1, 1], [-1, -1, -1]]


def test_phases_are_runs_in_turn() -> None:
    trial = Trial("combined", "witnesses", "x", "y", 0, train={"steps": 2, "prompts": 2, "group_size": 2, "updates": 1})
    both = combined.Combination(((combined.priced, 0.5), (combined.priced, 0.5)))
    fresh = load_policy(shipped_reasoner("witnesses"), device="cpu")
    found = run.train_combined(dataclasses.replace(trial), both, world_of("witnesses"), fresh)
    tokens = [step["sampled_tokens"] for step in found["steps"]]
    assert len(tokens) == 2 and tokens[1] > tokens[0] > 0 and found["ended"] is None


def test_what_is_registered_names_every_combination() -> None:
    registered = json.loads(plan_of("recent").read_text(encoding="utf-8"))
    assert set(registered["combinations"]) == set(combined.COMBINED)
    assert set(registered["settings_of"]) == set(KNOBS)


# ------------------------------------------------------------------------------------------------ what is judged


def measured(trial: Trial) -> dict[str, Any]:
    """A run of the plan as a summary keeps it: regret .02, .005 for the combination by state; one seed a bit more."""
    own = {"price-stated": 0.005, "price-fast": 0.015}.get(trial.method, 0.02) + 0.001 * trial.seed
    distance = {"readings": 9.0, "regret": own, "best_fixed": 0.9}
    found = {"accuracy": 0.93, "tokens": 25.0, "responses": 2048, "cut": 0.0, "distance": distance}
    unseen = {"accuracy": 0.3, "tokens": 40.0}
    return {
        **{name: getattr(trial, name) for name in ("suite", "world", "method", "setting", "seed")},
        "measured": {"test": found, "unseen": unseen}, "ended": None, "steps": 80, "sampled_tokens": 1,
    }  # fmt: skip


def summary_of(trials: list[Trial]) -> Summary:
    registered = json.loads(plan_of("recent").read_text(encoding="utf-8"))
    return Summary("recent", [], {trial.name: measured(trial) for trial in trials}, plan=registered)


def test_effects_are_judged_by_their_thresholds() -> None:
    found = summary_of(plan.trials())
    [claims] = page.claims(found).values()
    verdicts = dict(zip(page.STATISTICS, (claim.verdict for claim in claims), strict=True))
    # The plain price's long runs have 1.5, 3.1 and .8 points, mean 1.8 and standard error .7: .6 are 1.7 of them below.
    assert {name for name, word in verdicts.items() if word != "seen"} == {"summed", "beyond-errors", "hot"}
    assert [claim.measured for claim in claims[:2]] == ["0.006", "1.72"]
    assert page.findings(found) and len(page.sections(found)) == 2


def test_effects_without_all_runs_are_not_run() -> None:
    found = summary_of(plan.trials()[:-1])
    [claims] = page.claims(found).values()
    assert [claim.verdict for claim in claims[:2]] == ["not run", "not run"]
    assert page.findings(found) == []


def test_standard_errors_between_two_sets_of_seeds() -> None:
    # variances 1 and 4, over three seeds each: error sqrt(5 / 3)
    assert page.beyond_errors([1, 2, 3], [4, 6, 8]) == pytest.approx(4 / (5 / 3) ** 0.5)
