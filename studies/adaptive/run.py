"""Adaptive Deep Reasoning: does the bare prompt open short where short suffices and long where it does not?

The bases were taught both modes on the instructions, and open bare prompts by a coin. Setting `chains`: a short answer
says the result at once, which is right on short chains and a guess on long ones; a long one works the chain, twice or
more. Setting `witnesses`: a short answer asks for one reading of the hidden bit, which is nearly always right at level
.97 and little better than a coin at .6; a long one asks for up to 31. Arms: `adaptive` (the method's defaults),
`strong` (`switch_weight` .5), `sharp` (a hinge as well, with a margin of 2: it goes with the majority, where the
cross-entropy copies the share of groups in which a mode is preferred), `obey` (as `sharp`, and an answer that opens in
the other mode than asked counts as wrong), `by-mode` (the cross-entropy with weight 1, `obey`, an answer asked for
shortly of more than 12 tokens counts as wrong too, answers compared within their mode, and twice the group or more),
`opened` (as `by-mode`, but the mode's opener is put behind the bare prompt in the place of an instruction, and the
switching loss is the opener's negative log-likelihood among all tokens), `lead` (as `opened`, and long must lead by
more than one answer of sixteen), `no-switch` (`switch_weight` 0: the choice is learnt through instructed prompts alone)
and `no-deduction` (`rho` 0: a right answer earns the same in either mode).
`first-chains` were runs on the first base, which was no good and is not shipped.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lengthwise.config.groups.sampling import Sampling
from lengthwise.config.groups.training import Training
from lengthwise.engine import Policy, Trainer, load_policy
from lengthwise.generation.sampling import ROWS_AT_ONCE, sample_answers
from lengthwise.grading.problems import Problems
from lengthwise.lab import chains, witnesses
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.lab.words import ASK_LONG, ASK_SHORT, OPEN_LONG, OPEN_SHORT
from lengthwise.methods import build_method
from lengthwise.runs.chains_demo import chain_problems
from lengthwise.runs.compare.arenas import WITNESS_CAP, witness_problems
from studies.lab.plan import ADAPTIVE
from studies.running import Place, Run
from studies.summary import Numbers

SEEDS = {"by-mode": (0, 1, 2, 3), "opened": (0, 1, 2, 3), "lead": (0, 1, 2, 3)}
"""Other arms have three."""
LEAD = dict(ADAPTIVE["opened"][1])
"""The lab study's setting `opened`, which came after this study's arm of that name and has its lead as well."""
ARMS: dict[str, Numbers] = {
    "adaptive": {},
    "strong": {"switch_weight": 0.5},
    "sharp": {"switch_weight": 0.5, "switch_loss": "hinge", "margin": 2.0},
    "obey": {"switch_weight": 0.5, "switch_loss": "hinge", "margin": 2.0, "obey": True},
    "by-mode": {"switch_weight": 1.0, "obey": True, "short_cap": 12, "baseline": "mode"},
    "opened": LEAD | {"delta": 0.0},
    "lead": LEAD,
    "no-switch": {"switch_weight": 0.0},
    "no-deduction": {"rho": 0.0},
}
GROUPS = {"by-mode": 32, "opened": 32, "lead": 32}
"""Rollouts a prompt where an arm takes more than its setting: fewer prompts are called short by chance."""
OPTIONS = {"steps": 60, "per_level": 150}
"""Training steps, and held-out problems per level."""
MEASURED_EVERY, TRAIN_PROBLEMS = 10, 4000
WORDS = {"long_opener": OPEN_LONG, "short_opener": OPEN_SHORT, "instruction_sep": ""}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where it is practised: problems from (count per level or in all, split, seed, base), and how."""

    base: str
    cap: int
    held_out: Callable[[int, Path], Problems]
    train: Callable[[int, Path], Problems]
    prompts: int
    group_size: int
    lr: float


def by_level(policy: Policy, problems: Problems, cap: int, seed: int) -> dict[str, dict[str, float]]:
    """Per level: how often an answer opens short, accuracy (right and finished) and mean tokens, at temperature 1."""
    rollouts = sample_answers(policy, problems, Sampling(cap=cap, seed=seed, sample_rows=ROWS_AT_ONCE))
    short = rollouts.completion_ids[:, 0] == problems.token_id(OPEN_SHORT)
    assert problems.categories is not None, "both worlds name their level"
    values = {"short": short, "accuracy": rollouts.correct, "tokens": rollouts.num_tokens}
    found = {}
    for level in sorted(set(problems.categories)):
        here = torch.tensor([one == level for one in problems.categories])
        found[level] = {name: float(value[here].float().mean()) for name, value in values.items()}
        found[level]["problems"] = int(here.sum())
    return found


def asked_for(problems: Problems, words: str) -> Problems:
    """The same problems with a mode asked for."""
    return dataclasses.replace(problems, prompts=[problems.instructed(i, words) for i in range(len(problems))])


def carry_out(name: str, arm: str, seed: int, place: Place) -> Numbers:
    setting, steps = BY_SETTING[name], place.options["steps"]
    base = shipped_reasoner(setting.base)
    policy = load_policy(base, device=place.device)
    test, train = setting.held_out(place.options["per_level"], base), setting.train(seed, base)
    measured = functools.partial(by_level, policy, cap=setting.cap, seed=seed)
    asked = {"bare": test, "always long": asked_for(test, ASK_LONG), "always short": asked_for(test, ASK_SHORT)}
    controls = {how: measured(problems) for how, problems in asked.items()}
    method = build_method("adaptive", cap=setting.cap, **WORDS, **ARMS[arm]).loop
    assert method is not None, "it trains"
    curve: list[Numbers] = []
    losses: list[float] = []

    def note(row: dict[str, Any]) -> None:
        losses.append(row["mode_switch"])
        if row["step"] % MEASURED_EVERY == 0:
            curve.append({"step": row["step"], "sampled_tokens": row["sampled_tokens"], "levels": measured(test)})

    config = Training(
        steps=steps, prompts=setting.prompts, group_size=GROUPS.get(arm, setting.group_size), updates=2,
        lr=setting.lr, seed=seed, checkpoint_every=steps,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="adaptive-") as folder:
        Trainer(
            policy.model, method=method, task=train.task(), config=config, folder=Path(folder),
            eos_ids=list(train.contract.eos_ids), pad_id=policy.pad_id,
        ).train(note)  # fmt: skip
    return {
        "setting": name, "arm": arm, "seed": seed, "steps": steps, "options": dict(method.options),
        "train": config.to_dict(), "base": controls, "curve": curve, "mode_switch": losses,
    }  # fmt: skip


def _held_out_chains(per_level: int, base: Path) -> Problems:
    found: list[chains.Chain] = []
    for level in chains.LEVELS:
        if chains.distinct_problems(level) < chains.FEW_PROBLEMS:  # nearly all of them are practised on
            found += chains.all_problems([level], split="test")[:per_level]
        else:
            found += chains.problems(per_level, split="test", seed=0, levels=(level,))
    return chain_problems(found, base)


def _practised_chains(seed: int, base: Path) -> Problems:
    """All levels equally often: level 1 has so few problems that it would else be one in thirty."""
    return chain_problems(chains.problems(TRAIN_PROBLEMS, split="train", seed=seed, distinct=False), base)


def _held_out_witnesses(per_level: int, base: Path) -> Problems:
    return witness_problems(witnesses.problems(per_level * len(witnesses.LEVELS), seed=1_000_002), base)


BY_SETTING = {
    "chains": Setting(
        "chains-modes", 260, _held_out_chains,
        _practised_chains,
        prompts=16, group_size=8, lr=5e-5,
    ),
    # One token more for the opener. Eight answers a mode, since four readings at .6 are all right by chance too often.
    "witnesses": Setting(
        "witnesses-modes", WITNESS_CAP + 1, _held_out_witnesses,
        lambda seed, base: witness_problems(witnesses.problems(TRAIN_PROBLEMS, seed=seed), base),
        prompts=16, group_size=16, lr=1e-4,
    ),
}  # fmt: skip


def runs() -> list[Run]:
    """Every arm of both settings."""
    return [
        Run(f"{setting}-{arm}-{seed}", functools.partial(carry_out, setting, arm, seed))
        for setting in BY_SETTING
        for arm in ARMS
        for seed in SEEDS.get(arm, (0, 1, 2))
    ]
