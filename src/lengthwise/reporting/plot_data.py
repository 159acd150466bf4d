"""What a run's folder holds, read for the report: numbers, labels and what is missing; no drawing here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from lengthwise.data import too_deep
from lengthwise.errors import CheckpointError, InputError
from lengthwise.files import PARTIAL, read_json
from lengthwise.output_paths import real
from lengthwise.statistics.bootstrap import Interval, mean_interval
from lengthwise.statistics.records import Record, check_comparable, compare
from lengthwise.statistics.results import Comparison, RecordSummary

CONFIG, OUTCOME, SAMPLES, RECORDS = "config.json", "outcome.json", "samples.json", "records"
DOCUMENTS: Mapping[str, type] = {CONFIG: dict, OUTCOME: dict, SAMPLES: list}
MAIN = ("before", "after", "before-greedy", "after-greedy")
CUT, FIRST_PASS = "control-cut", "control-first-pass"
GREEDY = "-greedy"
ORDER = (*MAIN, CUT, FIRST_PASS)
DASH = "–"
BUDGETS = 80


@dataclass(frozen=True)
class Level:
    """One category of problems: intervals by record ("before", "after") of accuracy and of tokens.

    ``apart``: too few distinct problems to hold out, so it is not in the other numbers.
    """

    name: str
    apart: bool
    accuracy: Mapping[str, Interval]
    tokens: Mapping[str, Interval]


@dataclass(frozen=True)
class Run:
    """The files of a run, finished or not; what is not there is empty, and named in `missing`."""

    folder: Path
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    records: Mapping[str, Record]
    outcome: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]
    missing: Sequence[str]

    @property
    def name(self) -> str:
        """The folder's name: how a run is called beside others."""
        return real(self.folder).name

    @property
    def seed(self) -> int:
        """The run's seed, which its bootstrap intervals use too; 0 where the config is missing."""
        return int(self.config.get("seed", 0))

    @property
    def method(self) -> Mapping[str, Any]:
        """Name, paper, summary and options of the method; empty without a config."""
        method = self.config.get("method")
        if method is None:
            return {}
        given = method if isinstance(method, Mapping) else {"name": str(method)}
        return {"name": "?", "paper": "", "summary": "", "options": {}, **given}

    @cached_property
    def summaries(self) -> dict[str, RecordSummary]:
        """Every record's quantities with intervals, see `Record.summary`."""
        return {name: record.summary(seed=self.seed) for name, record in self.records.items()}

    @cached_property
    def levels(self) -> list[Level]:
        """Categories measured both before and after; those of the sets measured apart come with them."""
        apart = {str(level) for level in self.outcome.get("levels_apart", [])}
        found: dict[str, Level] = {}
        for suffix in self._paired_suffixes():
            pair = {when: self.records[when + suffix] for when in ("before", "after")}
            accuracies = {when: record.accuracies for when, record in pair.items()}
            tokens = {when: record.tokens for when, record in pair.items()}
            names = [set(record.categories or ()) for record in pair.values()]
            for level in sorted((names[0] & names[1]) - found.keys()):
                found[level] = Level(
                    level,
                    level in apart,
                    {when: self._of_level(record, accuracies[when], level) for when, record in pair.items()},
                    {when: self._of_level(record, tokens[when], level) for when, record in pair.items()},
                )
        return sorted(found.values(), key=lambda at: (not at.name.isdigit(), at.name.zfill(9)))

    def _paired_suffixes(self) -> list[str]:
        suffixes = [name.removeprefix("before") for name in self.records if name.startswith("before")]
        return [s for s in suffixes if s != GREEDY and f"after{s}" in self.records]

    def _of_level(self, record: Record, values: NDArray[np.float64], level: str) -> Interval:
        chosen = np.array(record.categories) == level
        return mean_interval(values[chosen], rng=np.random.default_rng(self.seed))

    def compared(self, a: str, b: str) -> Comparison | None:
        """What changed from record `a` to record `b`, paired; None if one is missing or they are unlike."""
        if (a, b) not in self._comparisons:
            there = a in self.records and b in self.records
            fit = there and unlike(self.records[a], self.records[b]) is None
            self._comparisons[a, b] = (
                compare(self.records[a], self.records[b], seed=self.seed, allow=("model",)) if fit else None
            )
        return self._comparisons[a, b]

    @cached_property
    def _comparisons(self) -> dict[tuple[str, str], Comparison | None]:
        return {}

    @property
    def tokens_saved(self) -> float | None:
        """``1 - L_after / L_before`` at temperature 1; None without both records."""
        change = self.compared("before", "after")
        ratio = None if change is None else change.tokens_ratio.estimate
        return None if ratio is None else 1.0 - ratio


def unlike(a: Record, b: Record) -> str | None:
    """Why two records may not be compared, or None if they may."""
    try:
        check_comparable(a, b, allow=("model",))
    except InputError as error:
        return str(error)
    return None


def load_run(folder: Path) -> Run:
    """Read a run's folder, finished or not.

    Raises:
        InputError: no such folder, a record that is none, or a config that is no run's.
        CheckpointError: a file that is there but damaged.
    """
    from lengthwise.engine.metrics_log import METRICS, read_metrics  # brings torch, which nothing else here needs

    if not folder.is_dir():
        raise InputError(f"RUN is {str(folder)!r}: no such folder; give a folder that a run was written to")
    paths = {p.stem: p for p in (folder / RECORDS).glob("*.json") if not p.name.startswith(PARTIAL)}
    others = sorted((n for n in paths if n not in ORDER), key=lambda n: (not n.startswith("before"), n))
    names = [n for n in (*ORDER, *others) if n in paths]
    documents = {n: _document(folder / n, kind) for n, kind in DOCUMENTS.items() if (folder / n).is_file()}
    config = documents.get(CONFIG, {})
    if config and "method" not in config:
        raise InputError(
            f"RUN is {str(folder)!r}: its {CONFIG} is not of a training run, as that of a model is not; give a folder "
            "that `lengthwise shorten` made"
        )
    wanted = [*MAIN, CUT, *([FIRST_PASS] if config.get("lab") else [])]
    missing = [n for n in (CONFIG, METRICS, OUTCOME, SAMPLES) if not (folder / n).is_file()]
    return Run(
        folder=folder,
        config=config,
        metrics=read_metrics(folder),
        records={name: Record.load(paths[name]) for name in names},
        outcome=documents.get(OUTCOME, {}),
        samples=documents.get(SAMPLES, []),
        missing=[*missing, *(f"{RECORDS}/{n}.json" for n in wanted if n not in paths)],
    )


def _document(path: Path, kind: type) -> Any:
    found = read_json(path)
    if not isinstance(found, kind):
        raise CheckpointError(f"{path} is damaged (no JSON {'object' if kind is dict else 'list'}); restore it")
    if too_deep(found) or (wrong := _WRONG[path.name](found)):
        what = "lists or objects too deep in each other" if too_deep(found) else wrong
        raise CheckpointError(f"{path} is damaged ({what}); restore it")
    return found


def _wrong_config(found: Mapping[str, object]) -> str | None:
    seed = found.get("seed", 0)
    return None if isinstance(seed, int) and seed >= 0 else "its seed is no whole number"


def _wrong_outcome(found: Mapping[str, object]) -> str | None:
    return None if isinstance(found.get("levels_apart", []), list) else "its levels_apart is no list"


def _wrong_samples(found: Sequence[object]) -> str | None:
    """Three answers before and three after, as `shorten` keeps them."""
    sound = all(isinstance(one, dict) and {"problem", "answer"} <= one.keys() and _answers(one) for one in found)
    return None if sound else "it holds something else than samples"


def _answers(sample: Mapping[str, object]) -> bool:
    answers = [sample.get(when) for when in ("before", "after")]
    return all(
        isinstance(answer, dict)
        and {"text", "correct", "finished"} <= answer.keys()
        and isinstance(answer.get("num_tokens"), int)
        and 0 <= answer["num_tokens"] < 1 << 53
        for answer in answers
    )


_WRONG: Mapping[str, Callable[[Any], str | None]] = {
    CONFIG: _wrong_config, OUTCOME: _wrong_outcome, SAMPLES: _wrong_samples,
}  # fmt: skip
"""What a page would stumble over in each document."""


def budget_curve(record: Record) -> tuple[list[float], list[float]]:
    """Mean tokens and accuracy of a record's own answers cut at budgets from 1 to its longest answer.

    Problems weigh alike. A forced cut, not a new generation; the last point is the record itself.
    """
    weights = np.concatenate([np.full(len(row), 1 / len(row)) for row in record.num_tokens]) / len(record.num_tokens)
    tokens = np.concatenate([np.asarray(row) for row in record.num_tokens])
    right = weights * np.concatenate(record.correct)
    budgets = np.unique(np.linspace(1, tokens.max(), BUDGETS).astype(int))
    kept = [(float(weights @ np.minimum(tokens, b)), float(right @ (tokens <= b))) for b in budgets]
    return [length for length, _ in kept], [share for _, share in kept]


def record_label(name: str, record: Record) -> str:
    """A record's name in words."""
    if name == CUT:
        return f"base cut at {record.context['cap']} tokens"
    known = {FIRST_PASS: "base stopped after its first pass", **dict.fromkeys(("before", "before-greedy"), "before")}
    known |= dict.fromkeys(("after", "after-greedy"), "after")
    return known.get(name, name.removeprefix("control-").replace("-", ", ", 1).replace("-", " "))


def record_group(name: str, record: Record) -> str:
    """The part of the table a record belongs to."""
    if name in ("before-greedy", "after-greedy"):
        return "Greedy"
    if name in ("before", "after"):
        temperature = number(record.context.get("temperature"), 2).rstrip("0").rstrip(".")
        return f"Sampled, temperature {temperature}"
    return "Controls" if name.startswith("control-") else "Measured apart"


def warnings_of(run: Run) -> list[tuple[str, list[int]]]:
    """Training's warnings, alike ones together, each with its steps; in order of first appearance."""
    steps: dict[str, list[int]] = {}
    for row in run.metrics:
        for text in row.get("warnings") or []:
            steps.setdefault(str(text), []).append(row["step"])
    return list(steps.items())


def settings(value: object, path: str = "") -> list[tuple[str, str]]:
    """A nested config as (dotted key, text) pairs, in its own order."""
    if isinstance(value, Mapping) and value:
        return [pair for k, v in value.items() for pair in settings(v, f"{path}.{k}".lstrip("."))]
    if value is None or value == "" or value == [] or value == {}:
        return [(path, "none")]
    if isinstance(value, bool):
        return [(path, "yes" if value else "no")]
    if isinstance(value, float):
        return [(path, f"{value:g}" if math.isfinite(value) else "undefined")]
    return [(path, ", ".join(map(str, value)) if isinstance(value, list) else str(value))]


def number(value: object, digits: int = 1) -> str:
    """A number as text, whole from 1000 on; a dash for what is undefined."""
    if not finite(value):
        return DASH
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def percent(value: object) -> str:
    """A share as text; a dash for what is undefined."""
    return f"{100 * value:.1f}%" if finite(value) else DASH


def points(value: object) -> str:
    """A difference of shares in percentage points with its sign, never "-0.0"."""
    return f"{round(100 * value, 1) + 0.0:+.1f}".replace("-", "−") if finite(value) else DASH


def span(interval: Interval | Mapping[str, float | None], text: Callable[[float], str]) -> str:
    """An interval's ends as text, "low to high"; empty where there is none."""
    low, high = (
        (interval.get("low"), interval.get("high")) if isinstance(interval, Mapping) else (interval.low, interval.high)
    )
    return "" if low is None or high is None else f"{text(low)} to {text(high)}"


def finite(value: object) -> TypeGuard[float]:
    """Whether a value is a number that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
