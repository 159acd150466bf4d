"""The position schemes' page and picture, from raw JSON and the effects that were registered before the runs.

`make_tables.py` writes the page; ``python scripts/giraffe_page.py`` draws the picture.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "giraffe"
REGISTERED = ROOT / "benchmarks" / "context_studies" / "giraffe_expected.json"
PICTURE = ROOT / "docs" / "img" / "giraffe.png"
SEEDS = (0, 1, 2)
LENGTHS = ("128", "256", "384", "512", "768", "1024", "1536", "2048")
TRAINED, TWICE, THREE, FOUR = "256", "512", "768", "1024"
ARMS = ("untouched", "longer", "linear", "power", "truncated", "randomised", "xpos", "yarn", "ntk")
SCHEMES = ("longer", "linear", "power", "truncated", "randomised", "xpos", "yarn", "ntk")
"""The trained arms that are ranked against each other, each read as it was trained."""
Runs = dict[str, list[dict[str, Any]]]


def load() -> Runs:
    """Runs by arm, in the order of seeds; only arms of which all seeds are there."""
    found: Runs = {}
    for arm in ARMS:
        paths = [RESULTS / f"{arm}-{seed}.json" for seed in SEEDS]
        if all(path.is_file() for path in paths):
            found[arm] = [json.loads(path.read_text()) for path in paths]
    return found


class Means:
    """Means over seeds of what was measured."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def __call__(self, arm: str, task: str, length: str, way: str = "as trained") -> float:
        return fmean(run["ways"][way][task][length] for run in self.runs[arm])

    def lines(self, arm: str, length: str, way: str = "as trained") -> float:
        return self(arm, "lines", length, way)

    def ranked(self, length: str) -> float:
        """Spearman's correlation of the trained arms: low perplexity against many lines."""
        return spearman(
            [-self(arm, "perplexity", length) for arm in SCHEMES], [self.lines(arm, length) for arm in SCHEMES]
        )


def ranks(values: list[float]) -> list[float]:
    """Ranks from 1, ties sharing their mean."""
    order = sorted(values)
    return [order.index(value) + (order.count(value) + 1) / 2 for value in values]


def spearman(a: list[float], b: list[float]) -> float:
    """Correlation of the ranks; nan where one side is constant."""
    x, y = ranks(a), ranks(b)
    mx, my = fmean(x), fmean(y)
    spread = (sum((v - mx) ** 2 for v in x) * sum((v - my) ** 2 for v in y)) ** 0.5
    return sum((v - mx) * (w - my) for v, w in zip(x, y, strict=True)) / spread if spread else float("nan")


Finding = tuple[bool, str]
"""Whether the effect was seen, and the numbers that decide."""


def collapses(m: Means) -> Finding:
    inside, twice, four = (m.lines("untouched", n) for n in (TRAINED, TWICE, FOUR))
    keys = m("untouched", "passkey", FOUR)
    seen = inside >= 0.9 and twice <= inside / 2 and four <= 0.1 and keys <= 0.2
    return seen, f"lines {pct(inside)} at 256, {pct(twice)} at 512, {pct(four)} at 1024; pass keys {pct(keys)} at 1024"


def linear_recovers(m: Means) -> Finding:
    return recovered(m, "linear")


def recovered(m: Means, *arms: str) -> Finding:
    wanted = 0.9 * m.lines("untouched", TRAINED)
    found = {arm: m.lines(arm, TWICE) for arm in arms}
    shown = ", ".join(f"{arm} {pct(value)}" for arm, value in found.items())
    return min(found.values()) >= wanted, f"lines at 512: {shown}; wanted {pct(wanted)}"


def larger_scale_reaches(m: Means) -> Finding:
    two, four = m.lines("linear", FOUR), m.lines("linear", FOUR, "linear 4")
    return four >= two + 0.05, f"lines at 1024: {pct(four)} evaluated at 4, {pct(two)} at 2"


def larger_scale_costs(m: Means) -> Finding:
    pairs = [(m.lines("linear", n), m.lines("linear", n, "linear 4")) for n in ("128", TRAINED)]
    shown = "; ".join(f"{pct(four)} against {pct(two)}" for two, four in pairs)
    return any(four <= two - 0.01 for two, four in pairs), f"lines at 128 and 256, evaluated at 4 against 2: {shown}"


def scale_without_training(m: Means) -> Finding:
    best = max(m.lines("untouched", TWICE, way) for way in ("linear 2", "linear 4"))
    trained = m.lines("linear", TWICE)
    return best <= trained / 2, f"lines at 512: {pct(best)} at best without training, {pct(trained)} trained"


def close_in_perplexity(m: Means) -> Finding:
    linear = m("linear", "perplexity", TWICE)
    found = {arm: m(arm, "perplexity", TWICE) for arm in ("truncated", "randomised")}
    shown = ", ".join(f"{arm} {value:.3f}" for arm, value in found.items())
    return max(found.values()) <= 1.05 * linear, f"perplexity at 512: {shown}; linear {linear:.3f}"


def behind_in_retrieval(m: Means) -> Finding:
    def behind(arm: str) -> bool:
        return any(m.lines(arm, n) <= m.lines("linear", n) - 0.1 for n in (TWICE, THREE))

    shown = "; ".join(
        f"{arm} {pct(m.lines(arm, TWICE))}, {pct(m.lines(arm, THREE))}" for arm in ("truncated", "randomised", "linear")
    )
    return behind("truncated") and behind("randomised"), f"lines at 512 and 768: {shown}"


def power_strong_near(m: Means) -> Finding:
    power, linear = m.lines("power", TRAINED), m.lines("linear", TRAINED)
    return power >= linear - 0.02, f"lines at 256: power {pct(power)}, linear {pct(linear)}"


def power_drops_sharpest(m: Means) -> Finding:
    drops = {arm: m.lines(arm, TRAINED) - m.lines(arm, THREE) for arm in ("linear", "power", "truncated", "randomised")}
    shown = ", ".join(f"{arm} {pct(value)}" for arm, value in drops.items())
    return max(drops, key=lambda arm: drops[arm]) == "power", f"points lost from 256 to 768: {shown}"


def xpos_loss(m: Means) -> Finding:
    xpos, linear = m("xpos", "perplexity", TWICE), m("linear", "perplexity", TWICE)
    return xpos > linear, f"perplexity at 512: xpos {xpos:.3f}, linear {linear:.3f}"


def lambda_flat(m: Means) -> Finding:
    near, far = (m("untouched", "perplexity", n, "lambda") for n in (TRAINED, "2048"))
    return far <= 1.1 * near, f"perplexity {near:.3f} at 256, {far:.3f} at 2048"


def lambda_forgets(m: Means) -> Finding:
    found = m.lines("untouched", FOUR, "lambda")
    return found <= 0.4, f"lines {pct(found)} at 1024"


def training_alone(m: Means) -> Finding:
    longer, linear = m.lines("longer", FOUR), m.lines("linear", FOUR, "linear 4")
    return longer <= linear / 2, f"lines at 1024: {pct(longer)} without a scheme, {pct(linear)} linear evaluated at 4"


def coarser(m: Means) -> Finding:
    """The pair of arms of nearly one perplexity that is furthest apart in retrieval."""

    def apart(pair: tuple[str, str]) -> float:
        a, b = (m(arm, "perplexity", TWICE) for arm in pair)
        return abs(m.lines(pair[0], TWICE) - m.lines(pair[1], TWICE)) if max(a, b) < 1.02 * min(a, b) else 0.0

    a, b = max(itertools.combinations(SCHEMES, 2), key=apart)
    shown = "; ".join(f"{arm} {m(arm, 'perplexity', TWICE):.3f} and {pct(m.lines(arm, TWICE))}" for arm in (a, b))
    return apart((a, b)) >= 0.1, f"perplexity and lines at 512: {shown}"


def ranks_alike(m: Means) -> Finding:
    found = m.ranked(TWICE)
    return found >= 0.8, f"Spearman's correlation {found:+.2f} at 512 ({m.ranked(FOUR):+.2f} at 1024)"


FINDINGS: dict[str, Callable[[Means], Finding]] = {
    "collapses": collapses,
    "linear_recovers": linear_recovers,
    "larger_scale_reaches": larger_scale_reaches,
    "larger_scale_costs": larger_scale_costs,
    "scale_without_training": scale_without_training,
    "close_in_perplexity": close_in_perplexity,
    "behind_in_retrieval": behind_in_retrieval,
    "power_strong_near": power_strong_near,
    "power_drops_sharpest": power_drops_sharpest,
    "xpos_loss": xpos_loss,
    "ntk_and_yarn": lambda m: recovered(m, "ntk", "yarn"),
    "lambda_flat": lambda_flat,
    "lambda_forgets": lambda_forgets,
    "training_alone": training_alone,
    "coarser": coarser,
    "ranks_alike": ranks_alike,
}


def page() -> str:
    """The whole page."""
    registered, runs = json.loads(REGISTERED.read_text()), load()
    lines = [
        "# Study: how long the reader reads under each position scheme",
        "",
        "Generated by `scripts/make_tables.py` from `benchmarks/results/giraffe/*.json`; do not edit. Made by",
        "`python benchmarks/context_studies/giraffe.py`. The lab is a teaching and regression instrument, not evidence",
        "about large models: rankings are the claim, not levels.",
        "",
        *(f"- {name.replace('_', ' ')}: {text}." for name, text in registered["setting"].items()),
    ]
    if set(ARMS) - set(runs):
        return "\n".join([*lines, "", f"Not measured yet: {', '.join(a for a in ARMS if a not in runs)}.", ""])
    means = Means(runs)
    lines += ["", "![Lines and perplexity by length](img/giraffe.png)", "", "## Seen and not seen", ""]
    lines += [f"{registered['registered'].capitalize()}. Means over seeds 0, 1 and 2.", ""]
    lines += ["| effect | | numbers |", "|---|---|---|"]
    for name, text in registered["statements"].items():
        seen, numbers = FINDINGS[name](means)
        lines.append(f"| {text} | {'seen' if seen else '**not seen**'} | {numbers} |")
    for task, title in (("lines", "Lines, % right"), ("passkey", "Pass keys, % right"), ("perplexity", "Perplexity")):
        lines += ["", f"## {title}", "", *table(runs, task)]
    lines += ["", "## By seed", "", *by_seed(runs), "", "## Made by", "", *made_by(runs)]
    return "\n".join(lines) + "\n"


def table(runs: Runs, task: str) -> list[str]:
    """A way of reading a row, a length a column: the mean over seeds and, for accuracies, its range."""
    rows = [f"| trained as | read as | {' | '.join(LENGTHS)} |", "|---|---" + "|---:" * len(LENGTHS) + "|"]
    for arm, found in runs.items():
        for way in found[0]["ways"]:
            cells = [_cell([run["ways"][way][task][n] for run in found], task) for n in LENGTHS]
            rows.append(f"| {arm} | {'as trained' if way == 'as trained' else way} | {' | '.join(cells)} |")
    return rows


def _cell(values: list[float], task: str) -> str:
    if task == "perplexity":
        return f"{fmean(values):.2f}" if fmean(values) < 1000 else f"{fmean(values):.0f}"
    spread = "" if max(values) - min(values) < 0.005 else f" ({pct(min(values))}..{pct(max(values))})"
    return f"{pct(fmean(values))}{spread}"


def by_seed(runs: Runs) -> list[str]:
    """The base models, and the rank correlation of every seed."""
    rows = ["| seed | lines of 200 that the base answers at 256 | Spearman at 512 | at 1024 |", "|---|---:|---:|---:|"]
    for place, seed in enumerate(SEEDS):
        one = Means({arm: [found[place]] for arm, found in runs.items()})
        inside = runs["untouched"][place]["base"]["lines_inside"]
        rows.append(f"| {seed} | {pct(inside)} | {one.ranked(TWICE):+.2f} | {one.ranked(FOUR):+.2f} |")
    return rows


def made_by(runs: Runs) -> list[str]:
    """Commands, commits and machines; and whether the registered file is the one of the runs."""
    every = [run for found in runs.values() for run in found]
    made = {
        f"- `{run['command']}` at `{str(run['commit'])[:12]}`, torch {run['torch']}, {run['device']}" for run in every
    }
    sha = hashlib.sha256(REGISTERED.read_bytes()).hexdigest()
    same = all(run["expected_sha256"] == sha for run in every)
    told = "is that of every run" if same else "**is not that of every run**"
    return [*sorted(made), f"- The SHA-256 of the registered effects, `{sha[:12]}`, {told}."]


def pct(value: float) -> str:
    return f"{100 * value:.0f}"


def draw() -> None:
    """Lines and perplexity by length, a curve a scheme."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    runs = load()
    means = Means(runs)
    shown = [
        ("untouched", "as trained", "untouched"), ("untouched", "lambda", "untouched, Lambda attention"),
        ("longer", "as trained", "longer, no scheme"), ("linear", "as trained", "linear 2"),
        ("linear", "linear 4", "linear 2, read at 4"), ("power", "as trained", "power 0.5"),
        ("truncated", "as trained", "truncated"), ("randomised", "as trained", "randomised"),
        ("xpos", "as trained", "xPos"), ("yarn", "as trained", "YaRN 2"), ("ntk", "as trained", "NTK 2"),
    ]  # fmt: skip
    figure, sides = plt.subplots(1, 2, figsize=(13, 5.6))
    xs = [int(n) for n in LENGTHS]
    for number, (arm, way, label) in enumerate(shown):
        style = {"color": plt.get_cmap("tab20")(2 * number % 20 + number // 10), "marker": "o", "markersize": 3.5}
        dash = "--" if way != "as trained" else "-"
        sides[0].plot(xs, [100 * means.lines(arm, n, way) for n in LENGTHS], dash, label=label, **style)
        sides[1].plot(xs, [means(arm, "perplexity", n, way) for n in LENGTHS], dash, label=label, **style)
    for axes, name in zip(sides, ("lines, % right", "perplexity of stories"), strict=True):
        axes.set_xscale("log", base=2)
        axes.set_xticks(xs, LENGTHS)
        axes.axvline(256, color="0.7", linestyle=":")
        axes.axvline(512, color="0.7", linestyle=":")
        axes.set(xlabel="words (dotted: trained at, fine-tuned at)", ylabel=name)
    sides[1].set_yscale("log")
    figure.legend(*sides[0].get_legend_handles_labels(), loc="lower center", ncols=6, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(PICTURE, dpi=90)


if __name__ == "__main__":
    draw()
