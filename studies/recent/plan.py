"""Which runs the study of recent methods and of combinations consists of: every method at one seed first.

Training and measurement are those of the lab's study, whose runs stand beside these; as in `compare`, a method's
settings are the values of the knob that it names, resolved on the untouched model, and a run may sample no more tokens
than its batches would have cost at the untouched model's length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lengthwise.lab.words import ASK_SHORT
from studies.lab.plan import LONG, TRAIN, Trial
from studies.recent.combined import COMBINED

SEEDS = (0, 1, 2)
WORLDS = ("witnesses", "chains")
UNTOUCHED = {"witnesses": 78.3, "chains": 60.1}
"""Mean response tokens, from the lab study's summary."""
BUDGET = {
    world: round(own["steps"] * own["prompts"] * own["group_size"] * UNTOUCHED[world]) for world, own in TRAIN.items()
}
LENGTHS = {world: [round(share * mean) for share in (0.6, 0.4, 0.8, 0.3)] for world, mean in UNTOUCHED.items()}
"""The knob of a length: 0.6, 0.4, 0.8 and 0.3 of the untouched model's."""
OPTIONS: Mapping[str, tuple[str, tuple[float, ...], Mapping[str, Any]]] = {
    "gr3": ("alpha", (0.3, 1.0, 0.1, 3.0), {}),
    "linear-penalty": ("coef", (0.25, 0.5, 0.1, 1.0), {}),
    "group-bonus": ("thinking_weight", (0.1, 0.3, 0.5, 0.03), {"answer_weight": 0.0}),
    "quantile-slack": ("rate", (0.1, 0.3, 1.0, 0.03), {"margin": 0}),
    "gated-decay": ("beta", (0.5, 1.0, 0.25, 2.0), {}),
}
"""Knob, its values as the method declares them, and what else is set: the slack's free tokens are a fifth of an answer
of the lab."""
LENGTH_KNOBS = {"laconic": "target", "gdpo": "target", "on-policy-sft": "cap", "effort": "budget"}
STEP_KNOBS = {"crisp": ("every", (0.5, 0.2, 0.1, 0.0))}
"""The knob of a number of batches, as shares of the run's."""
ASKED = {
    "effort": {"marker": ASK_SHORT, "marker_sep": ""},
    "crisp": {"instruction": ASK_SHORT, "instruction_sep": ""},
}
"""Methods that ask in words run on the reasoners with two modes: the others know none."""
METHODS = (*OPTIONS, *LENGTH_KNOBS, *STEP_KNOBS)
ONE_UPDATE = ("on-policy-sft",)
"""Likelihood without a ratio is right for the first update of a batch only."""


def method_trials(seed: int) -> list[Trial]:
    """Every method at its four settings in both worlds, the first setting of all before the second."""
    return [setting(method, world, seed, place) for place in range(4) for world in WORLDS for method in METHODS]


def setting(method: str, world: str, seed: int, place: int) -> Trial:
    """A method at one of its four settings."""
    if method in OPTIONS:
        knob, values, more = OPTIONS[method]
        options: dict[str, Any] = {knob: values[place], **more}
        if method == "gated-decay":
            options["reference_tokens"] = round(UNTOUCHED[world])
    elif method in STEP_KNOBS:
        knob, values = STEP_KNOBS[method]
        options = {knob: round(values[place] * TRAIN[world]["steps"])}
    else:
        knob = LENGTH_KNOBS[method]
        options = {knob: LENGTHS[world][place]}
    name, cap = f"{knob}{options[knob]:g}", options.pop("cap", None)
    return _trial(method, world, name, seed, {**options, **ASKED.get(method, {})}, cap)


def _trial(method: str, world: str, setting: str, seed: int, options: Mapping[str, Any], cap: int | None) -> Trial:
    train = {**TRAIN[world], "token_budget": BUDGET[world]}
    if method in ONE_UPDATE:
        train["updates"] = 1
    base = f"{world}-modes" if method in ASKED else world
    return Trial("recent", base, method, setting, seed, options, cap, train)


def combined_trials(seed: int) -> list[Trial]:
    """The combinations on witnesses, each in as many batches as the plain price's long runs."""
    train = {**TRAIN["witnesses"], **LONG}
    return [
        Trial("combined", found.world, name, "long", seed, train={**train, **found.train})
        for name, found in COMBINED.items()
    ]


def trials() -> list[Trial]:
    """Every run: the combinations and all methods at one seed, then the other seeds."""
    return [trial for seed in SEEDS for trial in (*method_trials(seed), *combined_trials(seed))]
