"""What a comparison allows to say, in sentences: what is not inferior, what differs, and what is noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lengthwise.reporting import plot_data as data
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.tradeoff_scores import frontier

NAMED = 3
NOT_INFERIOR, INFERIOR, OPEN = "not inferior", "inferior", "not shown"


def verdict(interval: Mapping[str, Any], margin: float) -> str:
    """Non-inferiority: the whole interval above -margin; inferior: all of it below; else nothing is shown."""
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return OPEN
    return NOT_INFERIOR if low > -margin else INFERIOR if high < -margin else OPEN


def claim(interval: Mapping[str, Any], neutral: float, above: str, below: str) -> str:
    """What an interval says of a difference: it, or that it is noise."""
    known = Interval(**interval)
    if known.low is None:
        return "no interval"
    return "noise" if not known.excludes(neutral) else above if known.low > neutral else below


def findings(result: Mapping[str, Any]) -> list[str]:
    """The sentences of a result, the most important first."""
    arms = [row["name"] for row in result["arms"] if row["chosen"] is not None]
    if not arms:
        return ["No method has a setting whose runs all finished, so nothing can be compared.", *_failed(result)]
    rows = {row["name"]: row for row in result["table"]["records"]}
    return [
        *_noise(result["pairs"]),
        *_against_base(rows, arms, result["margin"]),
        *_against_controls(rows, result["control_pairs"]),
        *_front(rows, arms, result["baselines"]),
        *_failed(result),
        *_careful(result),
    ]


def _said(interval: Mapping[str, Any]) -> str:
    span = data.span(interval, data.points)
    return f"{data.points(interval['estimate'])} points" + (f", {span}" if span else "")


def _noise(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sentence that says which differences between methods are noise."""
    if not pairs:
        return []
    found: dict[str, dict[str, list[str]]] = {
        "accuracy": {"real": [], "noise": []},
        "length": {"real": [], "noise": []},
    }
    for pair in pairs:
        a, b = pair["a"], pair["b"]
        gain, ratio = pair["accuracy_difference"], pair["tokens_ratio"]
        if claim(gain, 0.0, "+", "-") == "noise":
            found["accuracy"]["noise"].append(f"{a} and {b}")
        elif gain["low"] is not None:
            better, worse = (b, a) if gain["estimate"] > 0 else (a, b)
            found["accuracy"]["real"].append(f"{better} over {worse} ({data.points(abs(gain['estimate']))[1:]} points)")
        if claim(ratio, 1.0, "+", "-") == "noise":
            found["length"]["noise"].append(f"{a} and {b}")
        elif ratio["low"] is not None:
            shorter, longer = (a, b) if ratio["estimate"] > 1 else (b, a)
            share = ratio["estimate"] if ratio["estimate"] <= 1 else 1 / ratio["estimate"]
            found["length"]["real"].append(f"{shorter} under {longer} ({share:.2f} of its tokens)")
    said = []
    for what, sorted_out in found.items():
        real, noise = sorted_out["real"], sorted_out["noise"]
        first = f"In {what} {len(real)} of {len(pairs)} pairs of methods differ beyond noise"
        first += f": {'; '.join(real)}." if real else "."
        said.append(first + (f" Noise: {'; '.join(noise)}." if noise else ""))
    return said


def _against_base(rows: Mapping[str, Any], arms: Sequence[str], margin: float) -> list[str]:
    base = rows["base"]["summary"]
    sorted_out: dict[str, list[str]] = {NOT_INFERIOR: [], OPEN: [], INFERIOR: []}
    for name in arms:
        gain = rows[name]["against_reference"]["accuracy_difference"]
        ratio = rows[name]["against_reference"]["tokens_ratio"]["estimate"]
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
        f"Against the untouched model ({data.percent(base['accuracy'])} at {data.number(base['mean_tokens'])} tokens), "
        f"{said}."
    ]


def _against_controls(rows: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which methods beat a control: better beyond noise in accuracy or length, and in neither worse."""
    said = []
    for control in dict.fromkeys(pair["a"] for pair in pairs):
        sorted_out: dict[tuple[bool, bool], list[str]] = {}
        for pair in (pair for pair in pairs if pair["a"] == control):
            gain, ratio = pair["accuracy_difference"], pair["tokens_ratio"]
            signs = {claim(gain, 0.0, "better", "worse"), claim(ratio, 1.0, "worse", "better")}
            tokens = f", {ratio['estimate']:.2f} of its tokens" if ratio["estimate"] is not None else ""
            sorted_out.setdefault(("better" in signs, "worse" in signs), []).append(
                f"{pair['b']} ({data.points(gain['estimate'])} points{tokens})"
            )
        summary = rows[control]["summary"]
        beaten = ", ".join(sorted_out.pop((True, False), [])) or "no method"
        parts = {
            (True, True): "better in one, worse in the other",
            (False, False): "no different beyond noise",
            (False, True): "worse than it",
        }
        others = [f"{parts[key]}: {', '.join(sorted_out[key])}" for key in parts if key in sorted_out]
        said.append(
            f"The control {control}, which learned from coin flips ({data.percent(summary['accuracy'])} at "
            f"{data.number(summary['mean_tokens'])} tokens), is beaten by {'; '.join([beaten, *others])}."
        )
    return said


def _front(rows: Mapping[str, Any], arms: Sequence[str], baselines: Sequence[str]) -> list[str]:
    def point(name: str) -> tuple[float, float]:
        return rows[name]["summary"]["mean_tokens"], rows[name]["summary"]["accuracy"]

    best = frontier([point(name) for name in rows])
    front = [name for name in rows if point(name) in best]
    said = [f"On the front (nothing has fewer tokens and no less accuracy): {', '.join(front)}."]
    beaten = {
        name: [free for free in ("base", *baselines) if frontier([point(name), point(free)]) == [point(free)]]
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


def _failed(result: Mapping[str, Any]) -> list[str]:
    found = [
        f"{arm['name']} at {arm['knob']} {one['value']}, seed {seed} (step {reason['last_step'].get('step', 0)})"
        for arm in [*result["arms"], *result["controls"]] for one in arm["settings"]
        for seed, reason in one["failed"].items()
    ]  # fmt: skip
    return [f"Runs that ended early, with nothing left to learn from: {'; '.join(found)}."] if found else []


def _careful(result: Mapping[str, Any]) -> list[str]:
    said = []
    if len(result["seeds"]) == 1:
        said.append("One seed: intervals are over problems alone, and seeds often differ more than problems do.")
    if result["lab"]:
        said.append("The lab is a teaching and regression instrument, not evidence about large models.")
    return said
