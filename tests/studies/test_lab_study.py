"""The lab's study: its plan, what is registered, and the small parts of its statistics. No run is made here."""

from __future__ import annotations

import itertools

import pytest
import torch

from lengthwise.engine.method import Method
from lengthwise.methods import METHODS, build_method
from studies.lab import condense, page, plan, worlds
from studies.lab.claims import STATISTICS
from studies.lab.run import rounded
from studies.summary import Summary, load


def step(number: int, **values: float) -> dict[str, float]:
    return {"step": number, **values}


def test_the_plan_has_what_the_issue_asks_for():
    runs = plan.trials()
    assert len({run.name for run in runs}) == len(runs)
    methods = [run for run in runs if run.suite == "methods"]
    for world in ("witnesses", "chains"):
        own = [run for run in methods if run.world.removesuffix("-modes") == world]
        assert {run.method for run in own} == {"dler", "da-dler", "drpo", "siri", "grpo-lambda", "t-ppo", "adaptive"}
        for method, group in itertools.groupby(sorted(own, key=lambda run: run.method), key=lambda run: run.method):
            found = list(group)
            assert len({run.setting for run in found}) >= 4 and {run.seed for run in found} == {0, 1, 2}, method
        baselines = {run.method for run in runs if run.suite == "baselines" and run.world == world}
        assert baselines >= {
            "grpo", "dr-grpo", "rloo", "rloo-lp", "alp", "hapo", "l1-exact", "l1-max", "shorter-better", "laser",
            "laser-d", "laser-de", "kimi", "soft-overlong", "cosine", "a-dlp", "linear-price",
        }  # fmt: skip
    ablation = [run for run in runs if run.suite == "ablation"]
    assert len(ablation) == 32 and all(run.train["updates"] >= 4 for run in ablation)


def test_every_run_names_a_method_and_options_that_there_are():
    for run in plan.trials():
        if run.seed == 0:
            assert run.method in METHODS
            assert isinstance(build_method(run.method, cap=run.cap or 96, **run.options), Method), run.name


def test_every_registered_claim_has_its_statistic_and_one_threshold():
    entries = load("lab").plan["entries"]
    names = [entry["id"] for entry in entries]
    assert len(set(names)) == len(names) and set(names) == set(STATISTICS)
    assert sum(entry["kind"] == "ordering" for entry in entries) >= 15
    for entry in entries:
        assert list(entry["threshold"]) in (["at_least"], ["at_most"])
        assert entry["claim"] and entry["statistic"] and entry["source"] and entry["seeds"] and entry["n"] >= 1


def test_a_claim_without_its_runs_is_open():
    empty = Summary("lab", [], {}, plan=load("lab").plan)
    assert {claim.verdict for group in page.claims(empty).values() for claim in group} == {"open"}


def test_the_step_at_which_accuracy_breaks():
    rising = [step(n, accuracy=min(1.0, 0.5 + 0.01 * n)) for n in range(40)]
    assert condense.breaking_step(rising) is None
    found = condense.breaking_step([*rising, *(step(40 + n, accuracy=0.6) for n in range(10))])
    assert found is not None and 40 < found <= 45


def test_the_lag_of_a_wave_is_found():
    caps = [60 + 30 * torch.cos(torch.tensor(2 * torch.pi * n / 32)).item() for n in range(80)]
    late = [caps[max(0, n - 4)] for n in range(80)]
    lag, value = condense.best_lag([step(n + 1, cap=caps[n], mean_tokens=late[n]) for n in range(80)], 16)
    assert lag == 4 and value > 0.99


def test_last_steps_are_those_that_have_the_metric():
    # ten of 1 to 12 that have it: 2 to 11, mean 6.5
    steps = [*(step(n, loss=float(n)) for n in range(1, 12)), step(12)]
    assert condense.last(steps, "loss") == 6.5


def test_the_longest_of_k_by_enumeration():
    lengths = torch.tensor([3.0, 5.0, 8.0, 13.0, 21.0], dtype=torch.float64)
    for k in (1, 2, 4, 5):
        weights = worlds._weights_of_the_largest(5, k)
        wanted = [max(part) for part in itertools.combinations(lengths.tolist(), k)]
        assert float(weights.sum()) == pytest.approx(1)
        assert float(lengths @ weights) == pytest.approx(sum(wanted) / len(wanted))


def test_raw_numbers_are_kept_short():
    assert rounded({"a": [0.123456789, 3, None, (1e-12,)]}) == {"a": [0.12346, 3, None, [1e-12]]}
