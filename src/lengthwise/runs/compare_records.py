"""Several records beside each other, against the first: what may be claimed, and what is noise.

A side is one record, or one per seed. Everything is paired over problems; no number of a side depends on
which others stand in the table, the front of the trade-off apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise.errors import CheckpointError, InputError
from lengthwise.files import atomic_write_text
from lengthwise.output_paths import real
from lengthwise.reporting import plot_data as data
from lengthwise.reporting.figures import tradeoff, write_tradeoff
from lengthwise.reporting.pages import render
from lengthwise.reporting.plot_values import Curve, Mark
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.records import (
    Record,
    check_comparable,
    compare,
    in_one_order,
    mean_curve,
    per_seed,
    side_of,
    summarise,
)
from lengthwise.statistics.tradeoff_scores import AES_WEIGHTS, check_weights, frontier

CURVE_POINTS = 120
REFERENCE_LOOK = ("c-before", "square")
LOOKS = (("c-after", "dot"), ("c-control", "dot"), ("c-after", "diamond"), ("c-control", "diamond"))
"""Kind and shape of the marks after the reference, in turn: what a page and a picture both can show."""
QUANTITIES = (
    ("accuracy_difference", "accuracy, points", 0.0, data.points, "more accurate", "less accurate"),
    ("tokens_ratio", "tokens, ratio", 1.0, lambda v: data.number(v, 3), "longer", "shorter"),
    ("accuracy_efficiency_score", "AES", 0.0, lambda v: data.number(v, 2), "above 0", "below 0"),
    ("matched", "at equal tokens, points", 0.0, data.points, "above the cut", "below the cut"),
)
"""Key, label, the value of no difference, how it is written, what an interval above and one below it say."""


@dataclass(frozen=True)
class Named:
    """One side of the table: the records of one model, one per seed, and the name they go by."""

    name: str
    records: tuple[Record, ...]


def read_sides(arguments: Sequence[str]) -> list[Named]:
    """Read sides given as FILE, NAME=FILE or NAME=FILE,FILE (several seeds).

    Without a name a side is called as its record is, or by its file where several records are called alike.

    Raises:
        InputError: fewer than two sides, a file that is missing, damaged or no record, one that is named twice,
            or two sides of one name.
    """
    given = [_split(argument) for argument in arguments]
    if len(given) < 2:
        raise InputError(f"{len(given)} record is given; name at least two, the reference first")
    seen: set[Path] = set()
    loaded = []
    for _, files in given:
        for file in files:
            if real(file) in seen:
                raise InputError(f"{file} is named twice; name each record once")
            seen.add(real(file))
        loaded.append([load_record(file) for file in files])
    called = [records[0].name for records in loaded]
    names = [
        name or (own if called.count(own) == 1 else files[0]) for (name, files), own in zip(given, called, strict=True)
    ]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"the name {name!r} is given twice; call each side differently: NAME=FILE")
    return [
        # Every run's records are called "before" and "after"; errors are to say which file they mean.
        Named(
            name,
            tuple(dataclasses.replace(r, name=f if files[1:] else name) for r, f in zip(records, files, strict=True)),
        )
        for name, records, (_, files) in zip(names, loaded, given, strict=True)
    ]


def _split(argument: str) -> tuple[str, list[str]]:
    """The name, empty if there is none, and the files of one argument."""
    name, equals, rest = argument.partition("=")
    if Path(argument).exists() or not equals:
        return "", [argument]
    files = [rest] if Path(rest).exists() else rest.split(",")
    if not name or not all(files):
        raise InputError(f"{argument!r} is no record; give FILE, NAME=FILE or NAME=FILE,FILE")
    return name, files


def load_record(file: str) -> Record:
    """A record that a user names.

    Raises:
        InputError: a folder, or a file that is missing, damaged or no record.
    """
    try:
        if Path(file).is_dir():
            raise InputError(f"{file} is a folder; name a record in it (of a run: {file}/records/after.json)")
        return Record.load(file)
    except (InputError, CheckpointError, OSError, RecursionError) as error:
        named = str(error) if file in str(error) else f"{file} is no record of lengthwise: {error}"
        raise InputError(named) from error


def compare_records(
    sides: Sequence[Named],
    *,
    recut: bool = False,
    allow: Sequence[str] = (),
    weights: Sequence[float] = AES_WEIGHTS,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare every side with the first one, the reference; JSON-ready.

    ``records``: per side its `summary` with intervals, its accuracy under forced cuts (`curve`), each seed's
    numbers, the fields of its context that not all records share, and `against_reference`, what `compare` found
    (None for the reference). ``front``: the sides that no other dominates. ``context``: what all share.
    ``forced_cuts``: mean tokens and accuracy of the reference's own responses at every budget. With ``recut``
    all are cut to the smallest cap first, and ``recut_from`` holds the cap that such a side was drawn under.
    ``findings``, ``warnings``: sentences. ``seed`` is the bootstrap's.

    Raises:
        InputError: records that cannot be compared, naming each field that differs with both values.
    """
    if recut:
        smallest = min(int(record.context["cap"]) for side in sides for record in side.records)
        sides = [Named(side.name, tuple(_cut(record, smallest) for record in side.records)) for side in sides]
    every = [record for side in sides for record in side.records]
    for record in every:
        check_comparable(every[0], record, allow=allow)
    shared = {key: value for key, value in every[0].context.items() if all(r.context.get(key) == value for r in every)}
    rows = []
    for side in sides:
        against = (
            {} if side is sides[0] else compare(sides[0].records, side.records, seed=seed, allow=allow, weights=weights)
        )
        rows.append(_row(side, shared, against, seed=seed))
    points = [(row["summary"]["mean_tokens"], row["summary"]["accuracy"]) for row in rows]
    best = frontier(points)
    result = {
        "reference": sides[0].name,
        "weights": list(check_weights(weights)),
        "cap": every[0].context["cap"],
        "recut_from": {row["name"]: row["recut_from"] for row in rows if row["recut_from"]} or None,
        "allowed": list(allow),
        "seed": seed,
        "context": shared,
        "front": [row["name"] for row, point in zip(rows, points, strict=True) if point in best],
        "forced_cuts": _forced_cuts(sides[0]),
        "records": rows,
    }
    return {**result, "findings": findings(result), "warnings": _warnings(result)}


def _forced_cuts(side: Named) -> dict[str, list[float]]:
    curve = side_of(in_one_order(side.records)).cut_curve()
    kept = np.unique(np.linspace(0, len(curve[0]) - 1, CURVE_POINTS).astype(int))
    return {name: values[kept].tolist() for name, values in zip(("tokens", "accuracy"), curve, strict=True)}


def _cut(record: Record, cap: int) -> Record:
    return record if record.context["cap"] == cap else dataclasses.replace(record.recut(cap), name=record.name)


def _row(side: Named, shared: Mapping[str, Any], against: Mapping[str, Any], *, seed: int) -> dict[str, Any]:
    own = sorted({key for record in side.records for key in record.context} - shared.keys())
    drawn_under = [record.context["recut_from"] for record in side.records if "recut_from" in record.context]
    cut = max(drawn_under, default=None)
    return {
        "name": side.name,
        "label": ", ".join(
            [side.name, *_interventions(side), *([f"cut at {side.records[0].context['cap']}"] if cut else [])]
        ),
        "summary": summarise(side.records, seed=seed),
        "seeds": per_seed(side.records),
        "curve": mean_curve(side.records),
        "context": {key: [record.context.get(key) for record in side.records] for key in own},
        "recut_from": cut,
        "against_reference": {k: against[k] for k in (*(q[0] for q in QUANTITIES), "unknown")} if against else None,
    }


def _interventions(side: Named) -> list[str]:
    """What was done to the responses of a side while they were drawn, in words."""
    found = [record.context.get("intervention") or {} for record in side.records]
    return list(dict.fromkeys(f"{key} {value}" for one in found for key, value in one.items()))


def claims(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What changed against the reference, one row per side and quantity, written out with what it allows to say.

    ``noise`` is True where there is an interval and it includes the value of no difference.
    """
    rows = []
    for side in result["records"][1:]:
        for key, label, neutral, write, above, below in QUANTITIES:
            found = side["against_reference"][key]
            interval = Interval(**{field.name: found[field.name] for field in dataclasses.fields(Interval)})
            noise = interval.low is not None and not interval.excludes(neutral)
            if interval.low is None:
                claim = _undefined(interval, key, side, result["records"][0])
            elif noise:
                claim = f"noise: includes {neutral:g}"
            else:
                claim = above if interval.low > neutral else below
            rows.append(
                {
                    "name": side["name"],
                    "quantity": label,
                    "value": write(interval.estimate),
                    "span": data.span(found, write),
                    "claim": claim,
                    "noise": noise,
                }
            )
    return rows


def _undefined(interval: Interval, key: str, side: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    if interval.estimate is not None:
        few = side["summary"]["problems"] == 1
        return "no interval: one problem" if few else f"no interval: {interval.dropped} draws undefined"
    if key == "matched":
        longer = side["summary"]["mean_tokens"] > reference["summary"]["mean_tokens"]
        return "none: longer than the reference" if longer else "none: shorter than any cut"
    return "undefined: no right answer" if key == "accuracy_efficiency_score" else "undefined: no token"


def findings(result: Mapping[str, Any]) -> list[str]:
    """What the table says, in sentences: differences, noise, the front, and what the score refers to."""
    level = f"{100 * result['records'][0]['summary']['accuracy_interval']['level']:g} %"
    rows = claims(result)
    noise = [f"{row['quantity'].split(',')[0]} of {row['name']}" for row in rows if row["noise"]]
    reference = result["records"][0]["summary"]
    weights = ", ".join(f"{weight:g}" for weight in result["weights"])
    dominated = [row["name"] for row in result["records"] if row["name"] not in result["front"]]
    if noise:
        first = f"Noise, the {level} interval includes no difference: {'; '.join(noise)}."
    elif any(row["span"] for row in rows):
        first = f"Nothing with an interval is noise: every {level} interval excludes no difference."
    else:
        first = "No difference here has an interval, so none can be claimed."
    said = [
        first,
        f"On the front: {', '.join(result['front'])}."
        + (
            f" Dominated, another has no more tokens and no less accuracy: {', '.join(dominated)}." if dominated else ""
        ),
        f"AES: weights ({weights}), reference {result['reference']} with accuracy "
        f"{data.percent(reference['accuracy'])} and {data.number(reference['mean_tokens'])} tokens.",
    ]
    if result["recut_from"]:
        drawn = ", ".join(f"{name} under {cap:,}" for name, cap in result["recut_from"].items())
        said.insert(0, f"Cut at {result['cap']:,} tokens after they were drawn ({drawn}): a forced cut, not a new run.")
    return said


def _warnings(result: Mapping[str, Any]) -> list[str]:
    said = [f"{row['name']}: {row['summary']['warning']}" for row in result["records"] if row["summary"]["warning"]]
    unknown = result["records"][1]["against_reference"]["unknown"]
    if unknown:
        said.append(f"no record says its {', '.join(unknown)}: whether these agree is not known")
    return said


def build_page(result: Mapping[str, Any], out: Path) -> Path:
    """Write the comparison as one HTML file without external requests, and its plot as a PNG beside it."""
    marks, curves = _marks(result), _curves(result)
    looks = [(mark.kind, mark.shape) for mark in marks]
    page = render(
        "compare_records.html.j2",
        result=result,
        claims=claims(result),
        plot=tradeoff(marks, curves),
        data=data,
        looks=looks,
    )
    atomic_write_text(out, page)
    write_tradeoff(marks, curves, out.with_suffix(".png"))
    return out


def _marks(result: Mapping[str, Any]) -> list[Mark]:
    marks = []
    for index, row in enumerate(result["records"]):
        kind, shape = REFERENCE_LOOK if index == 0 else LOOKS[(index - 1) % len(LOOKS)]
        summary = row["summary"]
        spans = [summary[f"{name}_interval"] for name in ("mean_tokens", "accuracy")]
        ends = [None if span["low"] is None else (span["low"], span["high"]) for span in spans]
        marks.append(Mark(summary["mean_tokens"], summary["accuracy"], row["label"], kind, shape, *ends))
    return marks


def _curves(result: Mapping[str, Any]) -> list[Curve]:
    cut = result["forced_cuts"]
    best = [row["summary"] for row in result["records"] if row["name"] in result["front"]]
    front = sorted((summary["mean_tokens"], summary["accuracy"]) for summary in best)
    return [
        Curve(cut["tokens"], cut["accuracy"], f"{result['reference']}, its own answers cut", "c-before thin"),
        Curve([x for x, _ in front], [y for _, y in front], "front", "c-control dashed"),
    ]
