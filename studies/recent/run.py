"""The study of recent methods and of combinations nobody has published, in the lab study's worlds and by its rules."""

from __future__ import annotations

import dataclasses
import time
from functools import partial

from lengthwise.engine.model_folders import Policy, load_policy
from lengthwise.lab.reasoner import shipped_reasoner
from studies.lab.plan import Trial
from studies.lab.run import carry_out as carry_out_method
from studies.lab.run import rounded, train_by, world_of
from studies.lab.worlds import World, measure
from studies.recent.combined import COMBINED, Combination
from studies.recent.plan import trials
from studies.running import Place, Run
from studies.summary import Numbers


def runs() -> list[Run]:
    """Every trial of the plan; the untouched models are the lab study's."""
    return [Run(trial.name, partial(carry_out, trial)) for trial in trials()]


def carry_out(trial: Trial, place: Place) -> Numbers:
    """Train and measure one trial."""
    if trial.suite != "combined":
        return carry_out_method(trial, place)
    spent, world = time.process_time(), world_of(trial.world)
    policy = load_policy(shipped_reasoner(world.base), device=place.device)
    outcome = train_combined(trial, COMBINED[trial.method], world, policy)
    outcome["measured"] = measure(policy, world, seed=trial.seed)
    outcome["cpu_seconds"] = time.process_time() - spent
    return {"run": dataclasses.asdict(trial), "outcome": rounded(outcome)}


def train_combined(trial: Trial, combined: Combination, world: World, policy: Policy) -> Numbers:
    """Train the phases in turn, each as a run of its own."""
    found: Numbers = {"steps": [], "ended": None}
    for make, share in combined.phases:
        steps = round(share * trial.train["steps"])
        part = dataclasses.replace(trial, train={**trial.train, "steps": steps})
        outcome = train_by(make(world), part, world, policy)
        before = found["steps"][-1]["sampled_tokens"] if found["steps"] else 0
        found["steps"] += [{**step, "sampled_tokens": before + step["sampled_tokens"]} for step in outcome["steps"]]
        found["ended"] = found["ended"] or outcome["ended"]
    return found
