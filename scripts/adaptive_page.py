"""The page of the adaptive study, from its raw JSON and the effects that were registered before the runs."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "adaptive"
REGISTERED = ROOT / "benchmarks" / "adaptive_registered.json"
ARMS = {
    "adaptive": "adaptive",
    "strong": "adaptive, switch_weight .5",
    "sharp": "adaptive, switch_weight .5, hinge with margin 2",
    "obey": "adaptive, switch_weight .5, hinge with margin 2, obey",
    "by-mode": "adaptive, switch_weight 1, obey, short_cap 12, baseline mode, groups of 32",
    "opened": "adaptive, control opener, switch_loss nll, switch_weight 1, short_cap 12, baseline mode, groups of 32",
    "lead": "the same with delta 1/16: long must lead by more than one answer of sixteen",
    "no-switch": "without the switching loss",
    "no-deduction": "without the deduction",
}
JUDGED = {
    "chains": ("adaptive", "sharp", "obey", "by-mode", "opened"),
    "witnesses": ("strong", "sharp", "obey", "by-mode", "opened", "lead"),
    "first-chains": ("adaptive",),
}
"""The arms that what was registered is said of."""
EASY = {"chains": ("1",), "first-chains": ("1", "2"), "witnesses": ("0.97",)}
HARD = ("5", "6", "7", "0.6", "0.7")
"""Levels of either setting; those between are neither."""
STORIES = {
    "witnesses": (
        "Witnesses, `lab:witnesses-modes`",
        "A short answer asks for one reading of a hidden bit, a long one for up to 31. Easy: level .97, where one",
        "reading is nearly always right; hard: levels .6 and .7. 16 x 16 rollouts a step. The method's defaults",
        "and more are in [the lab's study](study-lab.md); its setting `opened` is the arm with delta 1/16 here.",
    ),
    "chains": (
        "Chains, `lab:chains-modes`",
        "A short answer says the result at once, a long one works the chain, twice or more. Easy: level 1, which has",
        "few distinct problems, nearly all of them practised on; hard: levels 5 to 7. 16 x 8 rollouts a step. Seed 0",
        "of `adaptive` and `sharp` practised each distinct problem once, so level 1 was one prompt in thirty; all else",
        "practised every level equally often.",
    ),
    "first-chains": (
        "Chains with the first base",
        "As above, easy: levels 1 and 2. That base has no level on which short answers suffice (level 1: .7 of them",
        "are right, .95 of the long ones), so there is nothing to tell apart, and what was registered is not seen. The",
        "base of chains was taught anew after this.",
    ),
}
NOT_RUN = "not run"
Levels = dict[str, dict[str, float]]


def runs(setting: str) -> dict[str, dict[int, dict[str, Any]]]:
    """Runs of a setting by arm and seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {arm: {} for arm in ARMS}
    for path in sorted(RESULTS.glob(f"{setting}-*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        found[run["arm"]][run["seed"]] = run
    return found


def over(levels: Levels, name: str, which: tuple[str, ...] | None = None) -> float:
    """Mean over levels, each counting the same; those of `which` that the setting has."""
    return mean(found[name] for level, found in levels.items() if which is None or level in which)


def gap(levels: Levels, easy: tuple[str, ...]) -> float:
    """How much more often easy prompts open short than hard ones."""
    return over(levels, "short", easy) - over(levels, "short", HARD)


def at_half(run: dict[str, Any]) -> Levels:
    return next(point["levels"] for point in run["curve"] if 2 * point["step"] >= run["steps"])


def last(run: dict[str, Any]) -> Levels:
    return run["curve"][-1]["levels"]


def verdicts(
    found: dict[str, dict[int, dict[str, Any]]], judged: str, easy: tuple[str, ...]
) -> list[tuple[str, str, bool]]:
    """(number, wanted, seen) of each registered effect, in their order."""
    main, plain, equal = found[judged], found["no-switch"], found["no-deduction"]
    gaps = [gap(last(run), easy) for run in main.values()]
    better = [
        over(last(run), "accuracy")
        - max(over(run["base"]["always long"], "accuracy"), over(run["base"]["always short"], "accuracy"))
        for run in main.values()
    ]
    lengths = [over(last(run), "tokens") / over(run["base"]["always long"], "tokens") for run in main.values()]
    slower = [gap(at_half(main[s]), easy) - gap(at_half(plain[s]), easy) for s in main.keys() & plain.keys()]
    pressure = [
        over(last(main[s]), "short", easy) - over(last(equal[s]), "short", easy) for s in main.keys() & equal.keys()
    ]
    return [
        (
            f"{100 * min(gaps):.1f} points in the least seed, {100 * mean(gaps):.1f} on average",
            "at least 50",
            min(gaps) >= 0.5,
        ),
        (f"{100 * mean(better):+.1f} points", "above -2", mean(better) > -0.02),
        (f"{mean(lengths):.2f} of always-long", "below 1", mean(lengths) < 1),
        _difference(slower, 0.10),
        _difference(pressure, 0.05),
    ]


def _difference(values: list[float], least: float) -> tuple[str, str, bool]:
    if not values:
        return NOT_RUN, f"above {100 * least:.0f}", False
    return f"{100 * mean(values):+.1f} points", f"above {100 * least:.0f}", mean(values) > least


def row(name: str, seed: int, levels: Levels, easy: tuple[str, ...]) -> str:
    shown = [f"{100 * over(levels, 'short', which):.0f}" for which in (easy, HARD)]
    accuracies = [over(levels, "accuracy"), over(levels, "accuracy", easy), over(levels, "accuracy", HARD)]
    cells = [*shown, f"{100 * gap(levels, easy):+.0f}", *(f"{100 * value:.1f}" for value in accuracies)]
    return f"| {name} | {seed} | {' | '.join(cells)} | {over(levels, 'tokens'):.1f} |"


def page() -> str:
    lines = [
        "# Study: one model that chooses long or short by itself",
        "",
        "Generated by `scripts/make_tables.py` from `benchmarks/results/adaptive/*.json`; do not edit. Made by",
        "`python benchmarks/adaptive_study.py`. The method, `adaptive`, is our reconstruction of Adaptive Deep",
        "Reasoning (arXiv 2505.20101), whose constants and formulas are not available. The lab is a teaching and",
        "regression instrument, not evidence about large models. Before training bare prompts open by a coin. Held-out",
        "problems, bare prompts unless said, temperature 1; means over levels. The runs without the",
        "switching loss or the deduction have the method's defaults in all else, so that beside most arms the last two",
        "rows compare more than that one part.",
    ]
    for setting in STORIES:
        lines += _setting(setting)
    return "\n".join(lines) + "\n"


def _setting(setting: str) -> list[str]:
    title, *story = STORIES[setting]
    found, easy = runs(setting), EASY[setting]
    judged = [arm for arm in JUDGED[setting] if found[arm]]
    lines = ["", f"## {title}", "", *story, ""]
    if not judged:
        return [*lines, "Not measured yet."]
    effects = json.loads(REGISTERED.read_text(encoding="utf-8"))["effects"]
    for arm in judged:
        lines += [
            f"Judged: {ARMS[arm]}, {_seeds(len(found[arm]))}.",
            "",
            "| registered before the runs | measured | wanted | |",
            "|---|---|---|---|",
        ]
        for effect, (number, wanted, seen) in zip(effects, verdicts(found, arm, easy), strict=True):
            word = "not run" if number == NOT_RUN else "seen" if seen else "not seen"
            lines.append(f"| {effect['name']} | {number} | {wanted} | {word} |")
        lines.append("")
    lines += [
        "Share of answers that open short in %, and how much more often on easy than on hard levels; accuracy in %.",
        "",
        "| arm | seed | easy | hard | gap | accuracy | easy | hard | tokens |",
        "|" + "---|" * 9,
    ]
    asked = {"bare": "untouched", "always long": "untouched, asked for long", "always short": "untouched, for short"}
    for seed, run in found[judged[0]].items():
        lines += [row(label, seed, run["base"][name], easy) for name, label in asked.items()]
    for arm, label in ARMS.items():
        lines += [row(label, seed, last(run), easy) for seed, run in found[arm].items()]
    return [*lines, *_curves(found, judged[0], easy), *_made_by(found)]


def _seeds(count: int) -> str:
    return f"{count} seeds" if count > 1 else "one seed"


def _curves(found: dict[str, dict[int, dict[str, Any]]], judged: str, easy: tuple[str, ...]) -> list[str]:
    """How fast the choice is learnt, arm by arm."""
    steps = [point["step"] for point in next(iter(found[judged].values()))["curve"]]
    lines = ["", "Gap in points by training step, mean over seeds:", ""]
    lines += [f"| arm | {' | '.join(map(str, steps))} |", "|" + "---|" * (1 + len(steps))]
    for arm, label in ARMS.items():
        if found[arm]:
            curve = [
                mean(100 * gap(run["curve"][place]["levels"], easy) for run in found[arm].values())
                for place in range(len(steps))
            ]
            lines.append(f"| {label} | {' | '.join(f'{value:+.0f}' for value in curve)} |")
    return lines


def _made_by(found: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    made = {
        f"`{run['provenance']['commit'][:12]}`, torch {run['provenance']['torch']}"
        for by_seed in found.values()
        for run in by_seed.values()
    }
    return ["", *(f"Made at {line}." for line in sorted(made))]
