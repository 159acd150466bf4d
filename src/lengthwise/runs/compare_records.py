"""Several records beside each other, against the first: what may be claimed, and what is noise.

A side is one record, or one per seed. Everything is paired over problems; no number of a side depends on
which others stand in the table, the front of the trade-off apart.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lengthwise.errors import CheckpointError, InputError
from lengthwise.json_types import JsonObject, JsonValue
from lengthwise.logs.graded_log import is_graded_log, record_of_graded_log, with_open_caps
from lengthwise.output_paths import real
from lengthwise.reporting import plot_data as data
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.json_form import Result, plain
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
from lengthwise.statistics.results import BudgetPoint, Comparison, RecordSummary, SeedNumbers
from lengthwise.statistics.tradeoff_scores import AES_WEIGHTS, check_weights, frontier

CURVE_POINTS = 120
OF_EVALUATION = "record.json"
"""The record in a folder that `lengthwise evaluate` made."""
Write = Callable[[object], str]
QUANTITIES: tuple[tuple[str, str, float, Write, str, str], ...] = (
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
    capped = iter(with_open_caps([record for records in loaded for record in records]))
    loaded = [[next(capped) for _ in records] for records in loaded]
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
    """A record that a user names: its file, the folder of an evaluation, or what `lengthwise grade --out` wrote.

    Raises:
        InputError: another folder, or a file that is missing, damaged or no record.
    """
    try:
        path = Path(file)
        if path.is_dir() and not (file and (path / OF_EVALUATION).is_file()):
            raise InputError(f"{file} is a folder; name a record in it (of a run: {file}/records/after.json)")
        if path.is_file() and is_graded_log(path):
            return record_of_graded_log(path)
        return Record.load(path / OF_EVALUATION if path.is_dir() else path)
    except (InputError, CheckpointError, OSError, RecursionError) as error:
        named = str(error) if file in str(error) else f"{file} is no record of lengthwise: {error}"
        raise InputError(named) from error


@dataclass(frozen=True, kw_only=True)
class ComparedSide(Result):
    """A side with its `summary` and intervals, each seed's numbers, and its accuracy under forced cuts (`curve`).

    ``context``: the fields of its context that not all records share, one value per record. ``recut_from``: the cap
    that it was drawn under, where it was cut. ``against``: what `compare` found; None for the reference.
    """

    name: str
    label: str
    summary: RecordSummary
    seeds: Sequence[SeedNumbers]
    curve: Sequence[BudgetPoint]
    context: Mapping[str, Sequence[JsonValue]]
    recut_from: int | None
    against: Comparison | None

    def to_dict(self) -> JsonObject:
        """As JSON has it; of what `compare` found only what this side has no other place for."""
        kept = (*(quantity[0] for quantity in QUANTITIES), "unknown")
        against = None if self.against is None else {name: plain(getattr(self.against, name)) for name in kept}
        found = {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)[:-1]}
        return {**found, "against_reference": against}


@dataclass(frozen=True, kw_only=True)
class RecordsComparison(Result):
    """Sides against the first one, the reference.

    ``front``: the sides that no other dominates. ``context``: what all records share. ``forced_cuts``: mean tokens and
    accuracy of the reference's own responses at every budget. ``cap``: that of all, ``seed``: the bootstrap's.
    """

    weights: tuple[float, ...]
    cap: int
    allowed: Sequence[str]
    seed: int
    context: Mapping[str, JsonValue]
    front: Sequence[str]
    forced_cuts: Mapping[str, Sequence[float]]
    sides: Sequence[ComparedSide]

    @property
    def reference(self) -> str:
        """The name of the first side."""
        return self.sides[0].name

    @property
    def recut_from(self) -> dict[str, int]:
        """The caps that sides were drawn under which were cut."""
        return {side.name: side.recut_from for side in self.sides if side.recut_from}

    @functools.cached_property
    def findings(self) -> list[str]:
        """What the table says, in sentences."""
        return findings(self)

    @property
    def warnings(self) -> list[str]:
        """What is worth a look before anything is believed."""
        said = [f"{side.name}: {side.summary.warning}" for side in self.sides if side.summary.warning]
        against = self.sides[1].against
        if against is not None and against.unknown:
            said.append(f"no record says its {', '.join(against.unknown)}: whether these agree is not known")
        return said

    def to_dict(self) -> JsonObject:
        """As JSON has it."""
        return {
            "reference": self.reference,
            "weights": list(self.weights),
            "cap": self.cap,
            "recut_from": plain(self.recut_from or None),
            "allowed": list(self.allowed),
            "seed": self.seed,
            "context": dict(self.context),
            "front": list(self.front),
            "forced_cuts": plain(self.forced_cuts),
            "records": [side.to_dict() for side in self.sides],
            "findings": list(self.findings),
            "warnings": list(self.warnings),
        }


def compare_records(
    sides: Sequence[Named],
    *,
    recut: bool = False,
    allow: Sequence[str] = (),
    weights: Sequence[float] = AES_WEIGHTS,
    seed: int = 0,
) -> RecordsComparison:
    """Compare every side with the first one, the reference.

    With ``recut`` all are cut to the smallest cap first. ``seed`` is the bootstrap's.

    Raises:
        InputError: records that cannot be compared, naming each field that differs with both values.
    """
    if recut:
        smallest = min(record.cap for side in sides for record in side.records)
        sides = [Named(side.name, tuple(_cut(record, smallest) for record in side.records)) for side in sides]
    every = [record for side in sides for record in side.records]
    for record in every:
        check_comparable(every[0], record, allow=allow)
    shared = {key: value for key, value in every[0].context.items() if all(r.context.get(key) == value for r in every)}
    compared = []
    for side in sides:
        against = None
        if side is not sides[0]:
            against = compare(sides[0].records, side.records, seed=seed, allow=allow, weights=weights)
        compared.append(_compared(side, shared, against, seed=seed))
    points = [(side.summary.mean_tokens, side.summary.accuracy) for side in compared]
    best = frontier(points)
    return RecordsComparison(
        weights=check_weights(weights),
        cap=every[0].cap,
        allowed=allow,
        seed=seed,
        context=shared,
        front=[side.name for side, point in zip(compared, points, strict=True) if point in best],
        forced_cuts=_forced_cuts(sides[0]),
        sides=compared,
    )


def _forced_cuts(side: Named) -> dict[str, list[float]]:
    curve = side_of(in_one_order(side.records)).cut_curve()
    kept = np.unique(np.linspace(0, len(curve[0]) - 1, CURVE_POINTS).astype(int))
    return {name: values[kept].tolist() for name, values in zip(("tokens", "accuracy"), curve, strict=True)}


def _cut(record: Record, cap: int) -> Record:
    return record if record.cap == cap else dataclasses.replace(record.recut(cap), name=record.name)


def _compared(side: Named, shared: Mapping[str, JsonValue], against: Comparison | None, *, seed: int) -> ComparedSide:
    own = sorted({key for record in side.records for key in record.context} - shared.keys())
    cut = max((record.drawn_under for record in side.records if record.drawn_under != record.cap), default=None)
    return ComparedSide(
        name=side.name,
        label=", ".join([side.name, *_interventions(side), *([f"cut at {side.records[0].cap}"] if cut else [])]),
        summary=summarise(side.records, seed=seed),
        seeds=per_seed(side.records),
        curve=mean_curve(side.records),
        context={key: [record.context.get(key) for record in side.records] for key in own},
        recut_from=cut,
        against=against,
    )


def _interventions(side: Named) -> list[str]:
    """What was done to the responses of a side while they were drawn, in words."""
    found = [record.context.get("intervention") for record in side.records]
    named = (item for one in found if isinstance(one, dict) for item in one.items())
    return list(dict.fromkeys(f"{key} {value}" for key, value in named))


@dataclass(frozen=True)
class Claim:
    """What changed in one quantity of a side, written out with what it allows to say.

    ``noise``: there is an interval, and it includes the value of no difference.
    """

    name: str
    quantity: str
    value: str
    span: str
    claim: str
    noise: bool


def claims(result: RecordsComparison) -> list[Claim]:
    """What changed against the reference, one row per side and quantity."""
    return [_claim(side, result.sides[0], *quantity) for side in result.sides[1:] for quantity in QUANTITIES]


def _claim(
    side: ComparedSide, reference: ComparedSide, key: str, label: str, neutral: float, write: Write, above: str,
    below: str,
) -> Claim:  # fmt: skip
    interval: Interval = getattr(side.against, key)
    noise = interval.low is not None and not interval.excludes(neutral)
    if interval.low is None:
        said = _undefined(interval, key, side, reference)
    elif noise:
        said = f"noise: includes {neutral:g}"
    else:
        said = above if interval.low > neutral else below
    return Claim(side.name, label, write(interval.estimate), data.span(interval, write), said, noise)


def _undefined(interval: Interval, key: str, side: ComparedSide, reference: ComparedSide) -> str:
    if interval.estimate is not None:
        few = side.summary.problems == 1
        return "no interval: one problem" if few else f"no interval: {interval.dropped} draws undefined"
    if key == "matched":
        longer = side.summary.mean_tokens > reference.summary.mean_tokens
        return "none: longer than the reference" if longer else "none: shorter than any cut"
    return "undefined: no right answer" if key == "accuracy_efficiency_score" else "undefined: no token"


def findings(result: RecordsComparison) -> list[str]:
    """What the table says, in sentences: differences, noise, the front, and what the score refers to."""
    level = f"{100 * result.sides[0].summary.accuracy_interval.level:g} %"
    rows = claims(result)
    noise = [f"{row.quantity.split(',')[0]} of {row.name}" for row in rows if row.noise]
    reference = result.sides[0].summary
    weights = ", ".join(f"{weight:g}" for weight in result.weights)
    dominated = [side.name for side in result.sides if side.name not in result.front]
    if noise:
        first = f"Noise, the {level} interval includes no difference: {'; '.join(noise)}."
    elif any(row.span for row in rows):
        first = f"Nothing with an interval is noise: every {level} interval excludes no difference."
    else:
        first = "No difference here has an interval, so none can be claimed."
    said = [
        first,
        f"On the front: {', '.join(result.front)}."
        + (
            f" Dominated, another has no more tokens and no less accuracy: {', '.join(dominated)}." if dominated else ""
        ),
        f"AES: weights ({weights}), reference {result.reference} with accuracy "
        f"{data.percent(reference.accuracy)} and {data.number(reference.mean_tokens)} tokens.",
    ]
    if result.recut_from:
        drawn = ", ".join(f"{name} under {cap:,}" for name, cap in result.recut_from.items())
        said.insert(0, f"Cut at {result.cap:,} tokens after they were drawn ({drawn}): a forced cut, not a new run.")
    return said
