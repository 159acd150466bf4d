"""What is kept of a run of the lab's study: what was measured after it, and of its steps the numbers that claims need.

Steps themselves are kept only where a statistic joins several runs' steps or a picture shows them: DRPO's KL, the
decode steps of the two windows of T-PPO that are compared, and SIRI's cap and length at the lowest floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

from studies.summary import Numbers, pick

LAST, SIGNAL_STEPS = 10, 20
VOTES = (1, 8, 64)
ENDS = ("mean_tokens", "cut_rate", "value_loss", "uniform_groups")
WINDOWS = ("window32", "window96")
LOWEST_FLOOR = "low18"
Steps = list[dict[str, Any]]


def condense(raw: Numbers) -> Numbers:
    """A run's measurements and its training in numbers; an untouched model has no training."""
    run, outcome = raw["run"], raw["outcome"]
    found = pick(run, "suite", "world", "method", "setting", "seed")
    if run["suite"] == "ablation":
        test = outcome["measured"]["test"]
        found["measured"] = {"test": pick(test, "accuracy", "tokens") | {"distance": pick(test["distance"], "regret")}}
    else:
        ks = {"base": None, "methods": VOTES}.get(run["suite"], ())
        found["measured"] = {
            name: measurement(part, ks if name == "test" else (), by_level=name == "test")
            for name, part in outcome["measured"].items()
        }
    if "merged" in outcome:
        found["merged"] = pick(outcome["merged"], "accuracy", "tokens")
    if "steps" in outcome:
        steps = outcome["steps"]
        found |= {"ended": outcome["ended"], "steps": steps[-1]["step"] if steps else 0}
        found |= training(run, outcome["options"], steps, outcome["wanted"])
    return found


def measurement(part: Numbers, ks: tuple[int, ...] | None, *, by_level: bool) -> Numbers:
    """A test set: accuracy, tokens, distance; votes of so many answers (None: of all) with entropies, and levels."""
    found = pick(part, "accuracy", "tokens", *(("responses", "cut") if by_level else ()))
    distance = tuple(part["distance"]) if by_level else ("readings", "regret")
    found["distance"] = pick(part["distance"], *distance)
    opened = {level: pick(own, "opens_long", "tokens") for level, own in part["levels"].items() if "opens_long" in own}
    if by_level and opened:
        found["levels"] = opened
    if ks != ():
        found |= {"votes": [vote for vote in part["votes"] if ks is None or vote["k"] in ks], **pick(part, "entropy")}
    return found


def training(run: Numbers, options: Numbers, steps: Steps, wanted: int) -> Numbers:
    """What the claims about a run's suite and method are computed from."""
    found: Numbers = {}
    if run["method"] in ("dler", "t-ppo"):
        found = {"cap": options["cap"], "last": {name: last(steps, name) for name in ENDS if having(steps, name)}}
    if run["suite"] == "ablation":
        found["signal"] = signal(steps, wanted, options["dynamic_sampling"])
        found["uniform_groups"] = mean(step["uniform_groups"] for step in steps)
    if run["method"] in ("drpo", "grpo-lambda"):
        flips = [step["sign_flips"] for step in steps]
        found["sign_flips"] = {"most": max(flips), "mean": mean(flips)}
    if run["method"] == "siri":
        found |= cycles(steps, options["cycle"])
    if run["method"] == "grpo-lambda":
        found["breaking_step"] = breaking_step(steps)
    return {"training": found | columns(run, steps)} if found else {}


def columns(run: Numbers, steps: Steps) -> Numbers:
    """Step by step, where it must be."""
    names: tuple[str, ...] = ()
    if run["method"] == "drpo":
        names = ("approx_kl",)
    elif run["method"] == "siri" and run["setting"] == LOWEST_FLOOR and run["world"] == "witnesses":
        names = ("cap", "mean_tokens")
    elif run["method"] == "t-ppo" and run["setting"] in WINDOWS:
        names, steps = ("decode_steps", "trained_tokens"), [step for step in steps if step["updates"]]
    return {"columns": {name: [step[name] for step in steps] for name in names}} if names else {}


# ------------------------------------------------------------------------------------------------ small parts


def having(steps: Steps, field: str) -> list[float]:
    """A training metric in the steps that have it."""
    return [step[field] for step in steps if step.get(field) is not None]


def last(steps: Steps, field: str) -> float:
    """Mean of a training metric over the last steps that have it."""
    return mean(having(steps, field)[-LAST:])


def signal(steps: Steps, wanted: int, dynamic: bool) -> float:
    """Share of the first steps' groups that say something."""
    return mean(min(1.0, s["groups"] / wanted) if dynamic else 1 - s["uniform_groups"] for s in steps[:SIGNAL_STEPS])


def breaking_step(steps: Steps, share: float = 0.9, width: int = 5) -> int | None:
    """The first step at which accuracy, over 5 steps, is below 90 % of its best so far; None if it never is."""
    shown = having(steps, "accuracy")
    best = 0.0
    for end in range(width, len(shown) + 1):
        now = mean(shown[end - width : end])
        if now < share * best:
            return end
        best = max(best, now)
    return None


def cycles(steps: Steps, cycle: int) -> Numbers:
    """How the length follows the cap, and what accuracy, length and entropy are at its turning points."""
    lag, agreement = best_lag(steps, cycle // 2)
    lows = [share * cycle for share in (0.5, 1.5, 2.5) if share * cycle <= len(steps)]
    turns = {share: share * cycle for share in (0.5, 1, 1.5, 2, 2.5)}
    found: Numbers = {
        "lag": lag,
        "agreement": agreement,
        "accuracy_at_lows": [around(steps, "accuracy", low) for low in (lows[0], lows[-1])],
    }
    if len(steps) >= turns[2.5]:
        found["tokens_low_high"] = [around(steps, "mean_tokens", turns[share]) for share in (1.5, 2)]
        found["entropy_at_turns"] = [around(steps, "entropy", step) for step in turns.values()]
    return found


def around(steps: Steps, field: str, step: float, width: int = 2) -> float:
    """Mean of a training metric in the steps around one."""
    return mean(s[field] for s in steps if abs(s["step"] - 1 - step) <= width)


def best_lag(steps: Steps, most: int) -> tuple[int, float]:
    """The lag of the mean length behind the cap at which they agree best, and their correlation there."""
    caps = [float(step["cap"]) for step in steps]
    lengths = [step["mean_tokens"] for step in steps]
    found = [(correlation(caps[: len(caps) - lag], lengths[lag:]), -lag) for lag in range(most + 1)]
    value, lag = max(found)
    return -lag, value


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's; 0 where one does not vary."""
    a, b = mean(first), mean(second)
    above = sum((x - a) * (y - b) for x, y in zip(first, second, strict=True))
    below = math.sqrt(sum((x - a) ** 2 for x in first) * sum((y - b) ** 2 for y in second))
    return above / below if below > 0 else 0.0
