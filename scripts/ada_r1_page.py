"""The Ada-R1 study's page and picture, from its raw JSON and the effects that were registered before the runs.

`make_tables.py` writes the page; ``python scripts/ada_r1_page.py`` draws the picture.
"""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lengthwise.evaluation.bootstrap import Interval, mean_interval

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ada_r1_study"
FIRST_ROUND = ROOT / "benchmarks" / "results" / "ada_r1_study_600"
REGISTERED = ROOT / "benchmarks" / "ada_r1_registered.json"
PICTURE = ROOT / "docs" / "img" / "ada-r1.png"
SEEDS = (0, 1, 2)
ARMS = {
    "long": "long (the verbose reasoner)",
    "short": "short (the terse reasoner)",
    "merged": "merged, 0.8 of long",
    "dpo-only": "DPO only, no merge",
    "group": "merge, group-level pairs",
    "ada-r1": "Ada-R1: merge, both levels",
}
BESIDE = {
    "merged-half": "merged, 0.5 of each",
    "narrow": "Ada-R1, the authors' pair rule",
}
LABELS = ARMS | BESIDE
TRAINED = ("dpo-only", "group", "ada-r1", "narrow")
SAMPLED, GREEDY = "measured", "measured_greedy"
Values = NDArray[np.float64]


def load(folder: Path = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """Runs by arm, in the order of seeds; only arms of which all seeds are there."""
    found: dict[str, list[dict[str, Any]]] = {}
    for arm in LABELS:
        paths = [folder / f"{arm}-{seed}.json" for seed in SEEDS]
        if all(path.is_file() for path in paths):
            found[arm] = [json.loads(path.read_text()) for path in paths]
    return found


def right(run: dict[str, Any], how: str = SAMPLED) -> Values:
    return np.array([float(mark) for mark in run[how]["right"]])


def tokens(run: dict[str, Any], how: str = SAMPLED) -> Values:
    return np.array(run[how]["tokens"], dtype=float)


def one_pass(run: dict[str, Any], how: str = SAMPLED) -> Values:
    return np.array([float(mark) for mark in run[how]["one_pass"]])


def over_seeds(runs: list[dict[str, Any]], what: Any, how: str = SAMPLED) -> Values:
    """Every problem's mean over seeds: the problems are the same."""
    return np.mean([what(run, how) for run in runs], axis=0)


def difference(a: list[dict[str, Any]], b: list[dict[str, Any]], how: str = SAMPLED) -> Interval:
    """Accuracy of `a` less that of `b` in points, paired over problems, with its 95 % interval."""
    values = 100 * (over_seeds(a, right, how) - over_seeds(b, right, how))
    return mean_interval(values, rng=np.random.default_rng(0))


def ratios(a: list[dict[str, Any]], b: list[dict[str, Any]], how: str = SAMPLED) -> list[float]:
    """Mean tokens of `a` over those of `b`, seed by seed."""
    return [float(tokens(x, how).mean() / tokens(y, how).mean()) for x, y in zip(a, b, strict=True)]


def levels(run: dict[str, Any]) -> Values:
    return np.array(run["levels"])


def average_change(arm: list[dict[str, Any]], long: list[dict[str, Any]], what: Any) -> float:
    """Mean over ALL sets (levels) of the relative change in %, 100 (x_arm - x_long) / x_long."""
    at, mine, theirs = levels(long[0]), over_seeds(arm, what), over_seeds(long, what)
    sets = sorted(set(at))
    return float(np.mean([100 * (mine[at == s].mean() / theirs[at == s].mean() - 1) for s in sets]))


def style_gap(runs: list[dict[str, Any]]) -> list[float]:
    """Share of one-pass answers at the lowest level less that at the highest, in points, seed by seed."""
    found = []
    for run in runs:
        at, short = levels(run), one_pass(run)
        found.append(100 * float(short[at == at.min()].mean() - short[at == at.max()].mean()))
    return found


def verdict(effect: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> tuple[str, str]:
    """Seen or not seen, and the numbers."""
    kind, arm = effect["kind"], runs[effect["arm"]]
    if kind == "style":
        gaps = style_gap(arm)
        return _said(min(gaps) > effect["least"]), f"{np.mean(gaps):+.1f} points ({_listed(gaps, '+.1f')})"
    against = runs[effect["against"]]
    shares, points = ratios(arm, against), difference(arm, against)
    shown = f"tokens x {np.mean(shares):.3f} ({_listed(shares, '.3f')}), accuracy {_interval(points)}"
    holds = max(shares) <= effect.get("tokens_at_most", np.inf)
    holds &= points.low >= effect.get("accuracy_low_at_least", -np.inf)
    holds &= points.high <= effect.get("accuracy_high_at_most", np.inf)
    return _said(bool(holds)), shown


def _said(holds: bool) -> str:
    return "seen" if holds else "not seen"


def _listed(values: list[float], form: str) -> str:
    return ", ".join(f"{value:{form}}" for value in values)


def _interval(found: Interval) -> str:
    return f"{found.estimate:+.2f} points ({found.low:+.2f} to {found.high:+.2f})"


def page() -> str:
    """The page's text."""
    registered, runs = json.loads(REGISTERED.read_text()), load()
    lines = [
        "# Study: Ada-R1 on chains",
        "",
        *wrap(
            "Generated by `scripts/make_tables.py` from `benchmarks/results/ada_r1_study/*.json`; do not edit. Made by "
            f"`python benchmarks/ada_r1_study.py`. {registered['set_up']}",
            width=119,
        ),
        "",
        "The lab is a teaching and regression instrument, not evidence about large models.",
        "",
        *(
            ["![Accuracy against tokens, and one-pass answers by level](img/ada-r1.png)", ""]
            if PICTURE.is_file()
            else []
        ),
        "## Registered effects",
        "",
        *wrap(f"Registered {registered['registered']}. {registered['rule']}", width=119),
        "",
        *wrap(f"Amended {registered['amendment']}", width=119),
        "",
        "### Second round",
        "",
        *verdicts(registered, runs),
        "",
        "### First round",
        "",
        *verdicts(registered, runs | {arm: [] for arm in TRAINED} | load(FIRST_ROUND)),
    ]
    if "long" in runs:
        lines += arms(runs) + by_level(runs) + averages(runs) + pilots(registered) + pairs(runs)
        first = load(FIRST_ROUND)
        below = [*arms({"long": runs["long"]} | first), *pairs(first)]
        lines += ["", "## First round: 600 training problems", *(row.replace("## ", "### ", 1) for row in below)]
    return "\n".join(lines + made_by([*runs.values(), *load(FIRST_ROUND).values()])) + "\n"


def verdicts(registered: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """All registered effects, each seen, not seen or not run, with the numbers."""
    lines = ["| effect | verdict | measured (by seed, or with a 95 % interval) |", "|---|---|---|"]
    for effect in registered["effects"]:
        named = [effect["arm"], *([effect["against"]] if "against" in effect else [])]
        missing = [arm for arm in named if not runs.get(arm)]
        found = ("not run", f"no three seeds of {', '.join(missing)}") if missing else verdict(effect, runs)
        lines.append(f"| {effect['claim']} | {found[0]} | {found[1]} |")
    return lines


def arms(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = ["", "## Arms, means over seeds", ""]
    lines += [
        "| arm | accuracy, T = 0.6 | difference from long | tokens | fewer, % | one pass, % | greedy | greedy tokens |"
    ]
    lines += ["|" + "---|" * 8]
    for arm, found in runs.items():
        points = "" if arm == "long" else _interval(difference(found, runs["long"]))
        fewer = 100 * (1 - float(np.mean(ratios(found, runs["long"]))))
        cells = [
            LABELS[arm], f"{100 * over_seeds(found, right).mean():.2f}", points,
            f"{over_seeds(found, tokens).mean():.1f}", "" if arm == "long" else f"{fewer:.1f}",
            f"{100 * over_seeds(found, one_pass).mean():.1f}", f"{100 * over_seeds(found, right, GREEDY).mean():.2f}",
            f"{over_seeds(found, tokens, GREEDY).mean():.1f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def by_level(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Accuracy at tokens, and the share of one-pass answers, level by level."""
    at = levels(runs["long"][0])
    sets = sorted(set(at))
    lines = []
    heads = "| arm | " + " | ".join(f"level {s}" for s in sets) + " |"
    for title, cell in (
        (
            "Accuracy in % at mean tokens",
            lambda f, s: f"{_of(f, right, at == s):.1f} at {_of(f, tokens, at == s) / 100:.1f}",
        ),
        ("Short answers (one pass) in %", lambda f, s: f"{_of(f, one_pass, at == s):.1f}"),
    ):
        lines += ["", f"## {title}, by level", "", heads, "|" + "---|" * (1 + len(sets))]
        lines += [f"| {LABELS[arm]} | " + " | ".join(cell(f, s) for s in sets) + " |" for arm, f in runs.items()]
    return lines


def _of(found: list[dict[str, Any]], what: Any, rows: NDArray[np.bool_]) -> float:
    return 100 * float(over_seeds(found, what)[rows].mean())


def averages(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = [
        "", "## Average change over all sets", "",
        "Mean over **all** six sets (the levels) of the relative change, 100 (x − x_long) / x_long. The paper's own",
        "average of accuracy is over three of its five sets; ours leaves none out.", "",
        "| arm | accuracy, % | tokens, % |", "|---|---|---|",
    ]  # fmt: skip
    for arm, found in runs.items():
        if arm != "long":
            changes = (average_change(found, runs["long"], what) for what in (right, tokens))
            lines.append(f"| {LABELS[arm]} | " + " | ".join(f"{change:+.2f}" for change in changes) + " |")
    return lines


def pilots(registered: dict[str, Any]) -> list[str]:
    """The settings that were tried on validation problems, and the one that the rule chose."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("pilot-*.json"))]
    if not found:
        return []
    floor = next(pilot["accuracy"] for pilot in found if pilot["pilot"] == "long")
    floor -= registered["pilot_margin_points"] / 100
    chosen = min((pilot for pilot in found if pilot["accuracy"] >= floor), key=lambda pilot: pilot["mean_tokens"])
    lines = ["", "## The pilot", "", *wrap(registered["pilot_rule"], width=119), ""]
    lines += ["| rate | beta | epsilon | accuracy, % | tokens | |", "|---|---|---|---|---|---|"]
    for pilot in sorted(found, key=lambda row: row["mean_tokens"]):
        long, mine = pilot["pilot"] == "long", pilot is chosen
        cells = ["long model", "", ""]
        if not long:
            lead = "any lead" if pilot["epsilon"] is None else f"{pilot['epsilon']:g}"
            cells = [f"{pilot['lr']:g}", f"{pilot['beta']:g}", lead]
        cells += [f"{100 * pilot['accuracy']:.1f}", f"{pilot['mean_tokens']:.1f}", "chosen" if mine else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def pairs(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What the samples say of the problems, and how many pairs came of them."""
    if "ada-r1" not in runs:
        return []
    lines = ["", "## Samples and pairs (Ada-R1, by seed)", ""]
    lines += ["| seed | long better, equal, worse, % | prefers long, short, none | group pairs | instance pairs |"
              " left out as equal | DPO steps | last loss |"]  # fmt: skip
    lines += ["|" + "---|" * 8]
    for run in runs["ada-r1"]:
        facts, dpo = run["stages"]["pairs"], run["stages"]["dpo"]
        lead = ", ".join(
            f"{100 * facts['long_is'].get(k, 0) / facts['problems']:.0f}" for k in ("better", "equal", "worse")
        )
        style = ", ".join(str(facts["preferred"]["all"].get(name, 0)) for name in ("long", "short", "none"))
        lines.append(
            f"| {run['seed']} | {lead} | {style} | {facts['pairs']['group']} | {facts['pairs']['instance']} | "
            f"{facts['left_out_as_equal']} | {dpo['steps']} | {dpo['loss_last']:.3f} |"
        )
    return lines


def made_by(runs: list[list[dict[str, Any]]]) -> list[str]:
    rows = [run for found in runs for run in found]
    made = {
        f"`{r['command']}` at `{r['commit'][:12]}`, torch {r['torch']}, TRL {r['trl']}, {r['device']}" for r in rows
    }
    return ["", "## Made by", "", *(f"- {line}" for line in sorted(made))] if made else []


def draw() -> None:
    """Accuracy against tokens of all arms, and the share of one-pass answers by level."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    runs = load()
    rounds = [(arm, found, "o-", "") for arm, found in runs.items()]
    rounds += [(arm, found, "x--", ", first round") for arm, found in load(FIRST_ROUND).items()]
    figure, (left, middle) = pyplot.subplots(1, 2, figsize=(11, 4.6), constrained_layout=True)
    at = levels(runs["long"][0])
    sets = sorted(set(at))
    colours = {arm: f"C{place}" for place, arm in enumerate(LABELS)}
    for arm, found, mark, which in rounds:
        style: dict[str, Any] = {"color": colours[arm], "label": LABELS[arm] + which}
        at_tokens, accuracy = ([float(what(r).mean()) for r in found] for what in (tokens, right))
        left.plot(at_tokens, [100 * value for value in accuracy], mark[0], **style)
        middle.plot(sets, [_of(found, one_pass, at == s) for s in sets], mark, **style)
    left.axvline(np.mean([tokens(r).mean() for r in runs["long"]]) / 2, color="#999999", lw=1, ls="--")
    left.set(
        xlabel="mean tokens (dashed: half of the long model's)", ylabel="accuracy, %", title="A point a seed, T = 0.6"
    )
    middle.set(xlabel="level", ylabel="one-pass answers, %", title="Share of short answers")
    for panel in (left, middle):
        panel.grid(alpha=0.25)
    left.legend(fontsize=7)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    draw()
