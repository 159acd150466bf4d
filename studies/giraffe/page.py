"""The page and the picture of the position schemes' study."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from matplotlib import colormaps

from studies.figures import panels
from studies.page import Claim, Page, Picture, Section, Table, pct, same_plan, verdict
from studies.summary import Numbers, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEDS = (0, 1, 2)
LENGTHS = ("128", "256", "384", "512", "768", "1024", "1536", "2048")
TRAINED, TWICE, THREE, FOUR = "256", "512", "768", "1024"
ARMS = ("untouched", "longer", "linear", "power", "truncated", "randomised", "xpos", "yarn", "ntk")
SCHEMES = ("longer", "linear", "power", "truncated", "randomised", "xpos", "yarn", "ntk")
"""The trained arms that are ranked against each other, each read as it was trained."""
Runs = dict[str, list[Numbers]]
whole = partial(pct, digits=0)


def of(summary: Summary) -> Runs:
    """Runs by arm, in the order of seeds."""
    return {arm: [summary.runs[f"{arm}-{seed}"] for seed in SEEDS] for arm in ARMS}


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
    return (
        seen,
        f"lines {whole(inside)} at 256, {whole(twice)} at 512, {whole(four)} at 1024; pass keys {whole(keys)} at 1024",
    )


def linear_recovers(m: Means) -> Finding:
    return recovered(m, "linear")


def recovered(m: Means, *arms: str) -> Finding:
    wanted = 0.9 * m.lines("untouched", TRAINED)
    found = {arm: m.lines(arm, TWICE) for arm in arms}
    shown = ", ".join(f"{arm} {whole(value)}" for arm, value in found.items())
    return min(found.values()) >= wanted, f"lines at 512: {shown}; wanted {whole(wanted)}"


def larger_scale_reaches(m: Means) -> Finding:
    two, four = m.lines("linear", FOUR), m.lines("linear", FOUR, "linear 4")
    return four >= two + 0.05, f"lines at 1024: {whole(four)} evaluated at 4, {whole(two)} at 2"


def larger_scale_costs(m: Means) -> Finding:
    pairs = [(m.lines("linear", n), m.lines("linear", n, "linear 4")) for n in ("128", TRAINED)]
    shown = "; ".join(f"{whole(four)} against {whole(two)}" for two, four in pairs)
    return any(four <= two - 0.01 for two, four in pairs), f"lines at 128 and 256, evaluated at 4 against 2: {shown}"


def scale_without_training(m: Means) -> Finding:
    best = max(m.lines("untouched", TWICE, way) for way in ("linear 2", "linear 4"))
    trained = m.lines("linear", TWICE)
    return best <= trained / 2, f"lines at 512: {whole(best)} at best without training, {whole(trained)} trained"


def close_in_perplexity(m: Means) -> Finding:
    linear = m("linear", "perplexity", TWICE)
    found = {arm: m(arm, "perplexity", TWICE) for arm in ("truncated", "randomised")}
    shown = ", ".join(f"{arm} {value:.3f}" for arm, value in found.items())
    return max(found.values()) <= 1.05 * linear, f"perplexity at 512: {shown}; linear {linear:.3f}"


def behind_in_retrieval(m: Means) -> Finding:
    def behind(arm: str) -> bool:
        return any(m.lines(arm, n) <= m.lines("linear", n) - 0.1 for n in (TWICE, THREE))

    shown = "; ".join(
        f"{arm} {whole(m.lines(arm, TWICE))}, {whole(m.lines(arm, THREE))}"
        for arm in ("truncated", "randomised", "linear")
    )
    return behind("truncated") and behind("randomised"), f"lines at 512 and 768: {shown}"


def power_strong_near(m: Means) -> Finding:
    power, linear = m.lines("power", TRAINED), m.lines("linear", TRAINED)
    return power >= linear - 0.02, f"lines at 256: power {whole(power)}, linear {whole(linear)}"


def power_drops_sharpest(m: Means) -> Finding:
    drops = {arm: m.lines(arm, TRAINED) - m.lines(arm, THREE) for arm in ("linear", "power", "truncated", "randomised")}
    shown = ", ".join(f"{arm} {whole(value)}" for arm, value in drops.items())
    return max(drops, key=lambda arm: drops[arm]) == "power", f"points lost from 256 to 768: {shown}"


def xpos_loss(m: Means) -> Finding:
    xpos, linear = m("xpos", "perplexity", TWICE), m("linear", "perplexity", TWICE)
    return xpos > linear, f"perplexity at 512: xpos {xpos:.3f}, linear {linear:.3f}"


def lambda_flat(m: Means) -> Finding:
    near, far = (m("untouched", "perplexity", n, "lambda") for n in (TRAINED, "2048"))
    return far <= 1.1 * near, f"perplexity {near:.3f} at 256, {far:.3f} at 2048"


def lambda_forgets(m: Means) -> Finding:
    found = m.lines("untouched", FOUR, "lambda")
    return found <= 0.4, f"lines {whole(found)} at 1024"


def training_alone(m: Means) -> Finding:
    longer, linear = m.lines("longer", FOUR), m.lines("linear", FOUR, "linear 4")
    return (
        longer <= linear / 2,
        f"lines at 1024: {whole(longer)} without a scheme, {whole(linear)} linear evaluated at 4",
    )


def coarser(m: Means) -> Finding:
    """The pair of arms of nearly one perplexity that is furthest apart in retrieval."""

    def apart(pair: tuple[str, str]) -> float:
        a, b = (m(arm, "perplexity", TWICE) for arm in pair)
        return abs(m.lines(pair[0], TWICE) - m.lines(pair[1], TWICE)) if max(a, b) < 1.02 * min(a, b) else 0.0

    a, b = max(itertools.combinations(SCHEMES, 2), key=apart)
    shown = "; ".join(f"{arm} {m(arm, 'perplexity', TWICE):.3f} and {whole(m.lines(arm, TWICE))}" for arm in (a, b))
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


def claims(summary: Summary) -> dict[str, list[Claim]]:
    means = Means(of(summary))
    found = [(text, *FINDINGS[name](means)) for name, text in summary.plan["statements"].items()]
    return {"": [Claim(text, numbers, verdict(seen)) for text, seen, numbers in found]}


def registered(summary: Summary) -> list[str]:
    setting = summary.plan["setting"]
    told = f"{setting['fine_tuning'].capitalize()}. Measured: {setting['measured']}. {same_plan(summary)}"
    return [f"{told} Means over seeds 0, 1 and 2; accuracies in %."]


def sections(summary: Summary) -> list[Section]:
    runs = of(summary)
    return [Section("Lines, pass keys and perplexity by length in words", [table(runs), by_seed(runs)])]


SHOWN = (("lines", TRAINED), ("lines", TWICE), ("lines", FOUR), ("lines", "2048"), ("passkey", FOUR),
         ("perplexity", TWICE), ("perplexity", FOUR))  # fmt: skip
NAMES = {"lines": "lines", "passkey": "pass keys", "perplexity": "perplexity"}


def table(runs: Runs) -> Table:
    """A way of reading a row: the mean over seeds and, for lines, their range."""
    rows = [
        [arm, way, *(cell([run["ways"][way][task][n] for run in found], task) for task, n in SHOWN)]
        for arm, found in runs.items()
        for way in found[0]["ways"]
    ]
    return Table(["trained as", "read as", *(f"{NAMES[task]}, {n}" for task, n in SHOWN)], rows)


def cell(values: list[float], task: str) -> str:
    if task == "perplexity":
        return f"{fmean(values):.2f}"
    spread = max(values) - min(values) >= 0.005 and task == "lines"
    return f"{whole(fmean(values))} ({whole(min(values))}..{whole(max(values))})" if spread else whole(fmean(values))


def by_seed(runs: Runs) -> str:
    """The base models, and the rank correlation of every seed."""
    inside, twice, four = [], [], []
    for place in range(len(SEEDS)):
        one = Means({arm: [found[place]] for arm, found in runs.items()})
        inside.append(whole(runs["untouched"][place]["base"]["lines_inside"]))
        twice.append(f"{one.ranked(TWICE):+.2f}")
        four.append(f"{one.ranked(FOUR):+.2f}")
    return (
        f"By seed: of 200 lines at 256 the base answers {', '.join(inside)} %; Spearman's correlation of perplexity "
        f"and lines is {', '.join(twice)} at 512 and {', '.join(four)} at 1024."
    )


def findings(summary: Summary) -> list[str]:
    m = Means(of(summary))
    yarn, truncated, dynamic = (
        m.lines("yarn", FOUR, "yarn 4"), m.lines("truncated", FOUR), m.lines("untouched", FOUR, "dynamic 2")
    )  # fmt: skip
    return [
        f"Four times beyond its trained context the untouched reader finds {whole(m.lines('untouched', FOUR))} % of "
        f"the lines; without training the best is Lambda attention ({whole(m.lines('untouched', FOUR, 'lambda'))} %), "
        f"then dynamic NTK ({whole(dynamic)} %). Fine-tuned, a truncated basis ({whole(truncated)} %) and YaRN read at "
        f"4 ({whole(yarn)} %) reach farthest; linear scaling costs accuracy nearby and reaches no farther. Perplexity "
        f"ranks the schemes as retrieval does only roughly (Spearman's {m.ranked(TWICE):+.2f} at 512)."
    ]


def draw(summary: Summary) -> Figure:
    """Lines and perplexity by length, a curve a scheme."""
    means = Means(of(summary))
    shown = [
        ("untouched", "as trained", "untouched"), ("untouched", "lambda", "untouched, Lambda attention"),
        ("longer", "as trained", "longer, no scheme"), ("linear", "as trained", "linear 2"),
        ("linear", "linear 4", "linear 2, read at 4"), ("power", "as trained", "power 0.5"),
        ("truncated", "as trained", "truncated"), ("randomised", "as trained", "randomised"),
        ("xpos", "as trained", "xPos"), ("yarn", "as trained", "YaRN 2"), ("ntk", "as trained", "NTK 2"),
    ]  # fmt: skip
    figure, sides = panels(2, (13, 5.6))
    xs = [int(n) for n in LENGTHS]
    for number, (arm, way, label) in enumerate(shown):
        style = {"color": colormaps["tab20"](2 * number % 20 + number // 10), "marker": "o", "markersize": 3.5}
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
    return figure


PAGE = Page(
    study="giraffe",
    file="study-giraffe.md",
    title="how long the reader reads under each position scheme",
    question="How long does the lab's reader, trained at 256 words, read under each position scheme?",
    registered=registered,
    claims=claims,
    findings=findings,
    limits=["A model of two layers: rankings are the claim, not levels."],
    sections=sections,
    pictures=[Picture("giraffe.png", "Lines and perplexity by length", draw, dpi=90)],
)
