"""Which runs the lab's study consists of, the most telling first.

A run is a method with one setting of its knob, in one world, with one seed. Names stay: a run that is on the disk is
not made again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lengthwise.lab.words import OPEN_LONG, OPEN_SHORT

SEEDS = (0, 1, 2)
SUITES = ("methods", "ablation", "baselines")
TRAIN: dict[str, dict[str, Any]] = {
    "witnesses": {"steps": 80, "prompts": 16, "group_size": 8, "updates": 2, "lr": 2e-4, "warmup_steps": 5},
    "chains": {
        "steps": 48,
        "prompts": 16,
        "group_size": 8,
        "updates": 2,
        "lr": 2e-4,
        "warmup_steps": 5,
        "max_draws": 4,
    },
}
T_PPO: dict[str, dict[str, Any]] = {world: {**own, "prompts": 12} for world, own in TRAIN.items()}
"""No length term, so its answers stay long: fewer of them."""
SIRI: dict[str, dict[str, Any]] = {**TRAIN, "chains": {**TRAIN["chains"], "steps": 80}}
"""One and a half cycles of 32 in 48 steps are few: the cap is tight for a quarter of a cycle only."""
PLAIN_CAP = {"witnesses": 36, "chains": 50}
GROUP_NORMALISED = "group-normalised"
SIRI_CYCLE = {"witnesses": 32, "chains": 32}
"""Two and a half cycles fit into a run, so it ends compressed."""
SIRI_MEAN = 68
"""The mean cap of SIRI between 96 and 39 tokens."""
PATIENT = {"steps": 240, "prompts": 24, "updates": 1}
"""A first try for the price, whose signal is faint in the beginning; one update a batch left it at one fixed length."""
LONG = {"steps": 200, "prompts": 24}
"""Nearly four times the responses of a usual run: how near to the frontier the price comes, and the papers' methods."""
LONG_RUNS: Mapping[tuple[str, str], tuple[tuple[int, ...], tuple[int | None, Mapping[str, Any]]]] = {
    ("price0.002-long", "linear-price"): ((0, 1, 2), (None, {"price": 0.002})),
    ("price0.001-long", "linear-price"): ((0,), (None, {"price": 0.001})),
    ("price0.004-long", "linear-price"): ((0,), (None, {"price": 0.004})),
    ("share0.1-long", "grpo-lambda"): ((0,), (None, {"fraction": 0.1})),
    ("low39-long", "siri"): ((0,), (None, {"shortest": 39, "cycle": 80})),
    ("cap48-long", "dler"): ((0,), (48, {"kl_coef": 0.0})),
    ("cap66-long", "da-dler"): ((0,), (66, {"easy_cap": 30, "kl_coef": 0.0})),
    ("lam0.2-long", "drpo"): ((0,), (None, {"lam": 0.2})),
}
ABLATION: dict[str, dict[str, Any]] = {
    "witnesses": {"steps": 60, "prompts": 16, "group_size": 8, "updates": 4, "lr": 3e-4, "warmup_steps": 5},
    "chains": {**TRAIN["chains"], "updates": 4},
}
"""On witnesses less than half of the groups turned out uniform; on chains more than half are."""
ABLATION_CAPS = {"witnesses": (27, 45), "chains": (44, 64)}


@dataclass(frozen=True)
class Trial:
    """One run of the study. `variant` names a change of the method that is not an option of it."""

    suite: str
    world: str
    method: str
    setting: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    cap: int | None = None
    train: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    merged: bool = False

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.suite}-{self.world}-{self.method}-{self.setting}-{self.seed}"


# Per world and method: setting -> (cap or None for the world's longest, options).
Settings = Mapping[str, tuple[int | None, Mapping[str, Any]]]

METHODS: dict[str, dict[str, Settings]] = {
    "witnesses": {
        "dler": {f"cap{c}": (c, {"kl_coef": 0.0}) for c in (24, 36, 48, 66)},
        "da-dler": {
            f"cap{c}": (c, {"easy_cap": e, "kl_coef": 0.0}) for c, e in ((36, 15), (48, 21), (66, 30), (96, 36))
        },
        "drpo": {f"lam{x}": (None, {"lam": x}) for x in (0.05, 0.1, 0.2, 0.5)},
        "siri": {f"low{x}": (None, {"shortest": x, "cycle": SIRI_CYCLE["witnesses"]}) for x in (18, 27, 39, 54)},
        "grpo-lambda": {f"share{x}": (None, {"fraction": x}) for x in (0.1, 0.2, 0.4, 0.8)},
        "t-ppo": {f"window{x}": (None, {"window": x}) for x in (24, 32, 48, 96)},
    },
    "chains": {
        "dler": {f"cap{c}": (c, {"kl_coef": 0.0}) for c in (44, 50, 64, 90)},
        "da-dler": {
            f"cap{c}": (c, {"easy_cap": e, "kl_coef": 0.0}) for c, e in ((44, 30), (50, 34), (64, 40), (90, 50))
        },
        "drpo": {f"lam{x}": (None, {"lam": x}) for x in (0.02, 0.05, 0.1, 0.5)},
        "siri": {f"low{x}": (2 * x, {"shortest": x, "cycle": SIRI_CYCLE["chains"]}) for x in (36, 44, 50, 64)},
        "grpo-lambda": {f"share{x}": (None, {"fraction": x}) for x in (0.1, 0.2, 0.4, 0.8)},
        "t-ppo": {f"window{x}": (None, {"window": x}) for x in (48, 64, 96, 190)},
    },
}
MODES = {"long_opener": OPEN_LONG, "short_opener": OPEN_SHORT}
ADAPTIVE: Settings = {
    "usual": (None, {"rho": 0.5, "switch_weight": 0.1}),
    "strong": (None, {"rho": 0.5, "switch_weight": 0.5}),
    "no-switch": (None, {"rho": 0.5, "switch_weight": 0.0}),
    "no-rho": (None, {"rho": 0.0, "switch_weight": 0.1}),
    "opened": (
        None,
        {
            "control": "opener", "switch_loss": "nll", "switch_weight": 1.0, "baseline": "mode", "short_cap": 12,
            "delta": 1 / 16,
        },
    ),
}  # fmt: skip
OPENED_TRAIN = {"steps": 80, "group_size": 32, "lr": 1e-4}
"""Sixteen answers a mode: with four, which mode is better is often chance."""
MERGED = {("chains", "dler", "cap50")}

BASELINES: dict[str, Settings] = {
    world: {
        "grpo": (None, {}),
        "dr-grpo": (None, {}),
        "rloo": (None, {}),
        "rloo-lp": (None, {"alpha": 0.2}),
        "alp": (None, {"beta": price}),
        "hapo": (None, {}),
        "l1-exact": (None, {"target": target, "alpha": 0.01}),
        "l1-max": (None, {"target": target, "alpha": 0.01}),
        "shorter-better": (None, {"beta": 0.01}),
        "laser": (None, {"target": target}),
        "laser-d": (None, {"every": 10}),
        "laser-de": (None, {"every": 10}),
        "kimi": (None, {}),
        "soft-overlong": (tight, {}),
        "cosine": (None, {}),
        "a-dlp": (None, {"reference_accuracy": accuracy, "rate": 0.002, "start": price / 2}),
        "linear-price": (None, {"price": price}),
    }
    for world, price, target, tight, accuracy in (
        ("witnesses", 0.002, 36, 48, 0.93),
        ("chains", 0.002, 33, 60, 0.85),
    )
}


def trials() -> list[Trial]:
    """Every run of the study, in the order in which they are worth having: every claim first, then its seeds."""
    first, *others = ([*method_trials("witnesses", seed), *method_trials("chains", seed)] for seed in SEEDS)
    return [*first, *baseline_trials(), *ablation_trials(), *itertools.chain(*others)]


def method_trials(world: str, seed: int) -> Iterator[Trial]:
    """The papers' methods, every setting."""
    for method, settings in METHODS[world].items():
        for setting, (cap, options) in settings.items():
            merged = (world, method, setting) in MERGED
            train = {"t-ppo": T_PPO, "siri": SIRI}.get(method, TRAIN)[world]
            yield Trial("methods", world, method, setting, seed, options, cap, train, merged=merged)
    for setting, (cap, options) in ADAPTIVE.items():
        train = TRAIN[world] | (OPENED_TRAIN if setting == "opened" else {})
        yield Trial("methods", f"{world}-modes", "adaptive", setting, seed, {**MODES, **options}, cap, train)


def ablation_trials() -> Iterator[Trial]:
    """DLER with and without each of its parts, at two caps in either world."""
    parts = tuple(itertools.product(("batch", "group"), (0.28, 0.2), (True, False)))
    for world, caps in ABLATION_CAPS.items():
        for cap, (norm, clip, dynamic) in itertools.product(caps, parts):
            setting = f"cap{cap}-{norm}-clip{clip}-{'dynamic' if dynamic else 'all'}"
            options = {"clip_high": clip, "dynamic_sampling": dynamic, "kl_coef": 0.0}
            variant = "" if norm == "batch" else GROUP_NORMALISED
            yield Trial("ablation", world, "dler", setting, 0, options, cap, ABLATION[world], variant)


def baseline_trials() -> Iterator[Trial]:
    """What the papers compare with, at one seed."""
    for world, methods in BASELINES.items():
        for method, (cap, options) in methods.items():
            yield Trial("baselines", world, method, "usual", 0, options, cap, TRAIN[world])
        plain = {"kl_coef": 0.0, "dynamic_sampling": False, "clip_high": 0.2}
        cap = PLAIN_CAP[world]
        yield Trial("baselines", world, "dler", "group-normalised", 0, plain, cap, TRAIN[world], GROUP_NORMALISED)
        yield Trial("baselines", world, "disco", "usual", 0, {}, None, TRAIN[world])
        everybody = {"fraction": 1.0, "alpha": 0.2}
        yield Trial("baselines", world, "grpo-lambda", "all-alpha0.2", 0, everybody, None, TRAIN[world])
    train = TRAIN["witnesses"]
    everybody = {"fraction": 1.0, "alpha": 0.6}
    yield Trial("baselines", "witnesses", "grpo-lambda", "all-alpha0.6", 0, everybody, None, train)
    yield Trial("baselines", "witnesses", "grpo", f"cap{SIRI_MEAN}", 0, {}, SIRI_MEAN, train)
    patient = {**train, **PATIENT}
    yield Trial("baselines", "witnesses", "linear-price", "price0.002-patient", 0, {"price": 0.002}, None, patient)
    for (setting, method), (seeds, (cap, options)) in LONG_RUNS.items():
        for seed in seeds:
            yield Trial("baselines", "witnesses", method, setting, seed, options, cap, {**train, **LONG})
    for setting, options in (("no-warmup", {"critic_warmup": 0}), ("lam-critic0.95", {"lam_critic": 0.95})):
        yield Trial("baselines", "witnesses", "t-ppo", setting, 0, {"window": 32, **options}, None, T_PPO["witnesses"])
