"""What a comparison allows to say, in sentences: what is not inferior, what differs, and what is noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lengthwise.reporting import plot_data as data
from lengthwise.runs.compare.comparison_result import BASE, ComparisonResult, PairResult
from lengthwise.runs.compare_records import ComparedSide
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.tradeoff_scores import frontier

NAMED = 3
NOT_INFERIOR, INFERIOR, OPEN = "not inferior", "inferior", "not shown"


def verdict(interval: Interval, margin: float) -> str:
    """Non-inferiority: the whole interval above -margin; inferior: all of it below; else nothing is shown."""
    if interval.ends is None:
        return OPEN
    low, high = interval.ends
    return NOT_INFERIOR if low > -margin else INFERIOR if high < -margin else OPEN


def claim(interval: Interval, neutral: float, above: str, below: str) -> str:
    """What an interval says of a difference: it, or that it is noise."""
    if interval.ends is None:
        return "no interval"
    return "noise" if not interval.excludes(neutral) else above if interval.ends[0] > neutral else below


def findings(result: ComparisonResult) -> list[str]:
    """The sentences of a result, the most important first."""
    arms = [row.name for row in result.arms if row.chosen is not None]
    if not arms or result.table is None:
        return ["No method has a setting whose runs all finished, so nothing can be compared.", *_failed(result)]
    sides = {side.name: side for side in result.table.sides}
    return [
        *_noise(result.pairs),
        *_against_base(sides, arms, result.margin),
        *_against_controls(sides, result.control_pairs),
        *_front(sides, arms, result.baselines),
        *_failed(result),
        *_careful(result),
    ]


def conclusion(result: ComparisonResult) -> str:
    """The comparison in one sentence: the shortest method that loses no accuracy, and whether methods differ at all."""
    names = [arm.name for arm in result.arms if arm.chosen is not None]
    if not names or result.table is None:
        return "No method has a setting whose runs all finished, so nothing can be compared."
    changes = {side.name: side.against for side in result.table.sides if side.against is not None}
    kept = [name for name in names if verdict(changes[name].accuracy_difference, result.margin) == NOT_INFERIOR]
    points = f"{100 * result.margin:g} point{'' if result.margin == 0.01 else 's'}"
    count = f"{len(kept) or 'none'} of {len(names)} method{'s' if names[1:] else ''}"
    held = (
        f"{count[0].upper()}{count[1:]} {'is' if len(kept) < 2 else 'are'} shown to lose at most {points} of accuracy"
    )
    if not kept:
        return f"{held}."
    best = min(kept, key=lambda name: changes[name].tokens_ratio.estimate or 1.0)
    ratio, gain = changes[best].tokens_ratio, changes[best].accuracy_difference
    span = data.span(ratio, lambda value: data.number(value, 2))
    told = f"{best} answers in {data.number(ratio.estimate, 2)} of the untouched model's tokens"
    told += f"{f' ({span})' if span else ''} at {_said(gain)}"
    return f"{held}: {told}{'; no method differs from another beyond noise' if _alike(result.pairs) else ''}."


def _alike(pairs: Sequence[PairResult]) -> bool:
    """Whether there are pairs of methods, and none differs beyond noise in accuracy or length."""
    return bool(pairs) and all(
        claim(pair.accuracy_difference, 0.0, "+", "-") == claim(pair.tokens_ratio, 1.0, "+", "-") == "noise"
        for pair in pairs
    )


def _said(interval: Interval) -> str:
    span = data.span(interval, data.points)
    return f"{data.points(interval.estimate)} points" + (f", {span}" if span else "")


def _noise(pairs: Sequence[PairResult]) -> list[str]:
    """The sentences that say which differences between methods are noise."""
    if not pairs:
        return []
    real: dict[str, list[str]] = {"accuracy": [], "length": []}
    noise: dict[str, list[str]] = {"accuracy": [], "length": []}
    for pair in pairs:
        a, b, gain, ratio = pair.a, pair.b, pair.accuracy_difference, pair.tokens_ratio
        if claim(gain, 0.0, "+", "-") == "noise":
            noise["accuracy"].append(f"{a} and {b}")
        elif gain.ends is not None and gain.estimate is not None:
            better, worse = (b, a) if gain.estimate > 0 else (a, b)
            real["accuracy"].append(f"{better} over {worse} ({data.points(abs(gain.estimate))[1:]} points)")
        if claim(ratio, 1.0, "+", "-") == "noise":
            noise["length"].append(f"{a} and {b}")
        elif ratio.ends is not None and ratio.estimate is not None:
            shorter, longer = (a, b) if ratio.estimate > 1 else (b, a)
            share = ratio.estimate if ratio.estimate <= 1 else 1 / ratio.estimate
            real["length"].append(f"{shorter} under {longer} ({share:.2f} of its tokens)")
    said = []
    for what, found in real.items():
        first = f"In {what} {len(found)} of {len(pairs)} pairs of methods differ beyond noise"
        first += f": {'; '.join(found)}." if found else "."
        said.append(first + (f" Noise: {'; '.join(noise[what])}." if noise[what] else ""))
    return said


def _against_base(sides: Mapping[str, ComparedSide], arms: Sequence[str], margin: float) -> list[str]:
    base = sides[BASE].summary
    sorted_out: dict[str, list[str]] = {NOT_INFERIOR: [], OPEN: [], INFERIOR: []}
    for name in arms:
        change = sides[name].against
        assert change is not None, "an arm is not the reference"
        gain, ratio = change.accuracy_difference, change.tokens_ratio.estimate
        tokens = f", {ratio:.2f} of the tokens" if ratio is not None else ""
        sorted_out[verdict(gain, margin)].append(f"{name} ({_said(gain)}{tokens})")
    points = f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"
    parts = {
        NOT_INFERIOR: f"at most {points} less accurate",
        OPEN: "open, more problems or seeds are needed",
        INFERIOR: f"more than {points} less accurate",
    }
    said = "; ".join(f"{parts[key]}: {', '.join(names)}" for key, names in sorted_out.items() if names)
    return [
        f"Against the untouched model ({data.percent(base.accuracy)} at {data.number(base.mean_tokens)} tokens), "
        f"{said}."
    ]


def _against_controls(sides: Mapping[str, ComparedSide], pairs: Sequence[PairResult]) -> list[str]:
    """Which methods beat a control: better beyond noise in accuracy or length, and in neither worse."""
    said = []
    for control in dict.fromkeys(pair.a for pair in pairs):
        sorted_out: dict[tuple[bool, bool], list[str]] = {}
        for pair in (pair for pair in pairs if pair.a == control):
            gain, ratio = pair.accuracy_difference, pair.tokens_ratio
            signs = {claim(gain, 0.0, "better", "worse"), claim(ratio, 1.0, "worse", "better")}
            tokens = f", {ratio.estimate:.2f} of its tokens" if ratio.estimate is not None else ""
            sorted_out.setdefault(("better" in signs, "worse" in signs), []).append(
                f"{pair.b} ({data.points(gain.estimate)} points{tokens})"
            )
        summary = sides[control].summary
        beaten = ", ".join(sorted_out.pop((True, False), [])) or "no method"
        parts = {
            (True, True): "better in one, worse in the other",
            (False, False): "no different beyond noise",
            (False, True): "worse than it",
        }
        others = [f"{parts[key]}: {', '.join(sorted_out[key])}" for key in parts if key in sorted_out]
        said.append(
            f"The control {control}, which learned from coin flips ({data.percent(summary.accuracy)} at "
            f"{data.number(summary.mean_tokens)} tokens), is beaten by {'; '.join([beaten, *others])}."
        )
    return said


def _front(sides: Mapping[str, ComparedSide], arms: Sequence[str], baselines: Sequence[str]) -> list[str]:
    def point(name: str) -> tuple[float, float]:
        return sides[name].summary.mean_tokens, sides[name].summary.accuracy

    best = frontier([point(name) for name in sides])
    front = [name for name in sides if point(name) in best]
    said = [f"On the front (nothing has fewer tokens and no less accuracy): {', '.join(front)}."]
    beaten = {
        name: [free for free in (BASE, *baselines) if frontier([point(name), point(free)]) == [point(free)]]
        for name in arms
    }
    lost = [f"{name} by {_few(free)}" for name, free in beaten.items() if free]
    if lost:
        said.append(f"Dominated by what needs no training: {'; '.join(lost)}.")
    return said


def _few(names: Sequence[str]) -> str:
    """A list in words, its end counted where it is long."""
    shown = [*names] if len(names) <= NAMED else [*names[:NAMED], f"{len(names) - NAMED} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if shown[1:] else shown[0]


def _failed(result: ComparisonResult) -> list[str]:
    found = [
        f"{arm.name} at {arm.knob} {one.value}, seed {seed} (step {failed.step})"
        for arm in result.trained for one in arm.settings for seed, failed in one.failed.items()
    ]  # fmt: skip
    return [f"Runs that ended early, with nothing left to learn from: {'; '.join(found)}."] if found else []


def _careful(result: ComparisonResult) -> list[str]:
    said = []
    if len(result.seeds) == 1:
        said.append("One seed: intervals are over problems alone, and seeds often differ more than problems do.")
    if result.lab:
        said.append("The lab is a teaching and regression instrument, not evidence about large models.")
    return said
