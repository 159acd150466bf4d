"""Records of a measurement: its numbers with their context, and the rules for comparing two of them.

Unlike caps, problems, graders, tokenizers or templates are never compared; see `check_comparable`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lengthwise.data import natural_key
from lengthwise.errors import InputError
from lengthwise.files import atomic_write_json, read_json
from lengthwise.json_types import JsonValue
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.metrics import (
    accuracy,
    accuracy_at_budget,
    accuracy_given_finished,
    check_budget,
    check_flags,
    check_same_samples,
    check_token_counts,
    mean_tokens,
    mean_tokens_at_budget,
    subset_mean_tokens,
    token_efficiency,
    truncation_at_budget,
    truncation_rate,
)
from lengthwise.statistics.record_checks import checked_context, checked_texts
from lengthwise.statistics.results import (
    BudgetPoint,
    CategoryNumbers,
    Comparison,
    MatchedInterval,
    RecordSummary,
    Reference,
    ScoreInterval,
    SeedNumbers,
    cut_warning,
)
from lengthwise.statistics.seed_runs import Side, over_runs, paired_intervals
from lengthwise.statistics.tradeoff_scores import AES_WEIGHTS, check_weights

MUST_AGREE = ("cap", "data", "grader", "tokenizer", "template")
MAY_DIFFER = ("temperature", "top_p", "samples", "model")
BUDGET_SHARES = (16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Record:
    """One measurement of one model on P problems with S samples each (S may differ by problem).

    `context` carries model, data, cap, temperature, top_p, samples, seed, grader, tokenizer, template (the
    contract's fingerprint). `categories` names a category per problem, or is None. `answer_correct`, `finished`
    bool and `num_tokens` int (EOS included, at most the cap) are [P, S]. A response that was cut is wrong.

    Raises:
        InputError: shapes that disagree, a context without a cap or that is no JSON, more tokens than the cap.
    """

    name: str
    context: Mapping[str, JsonValue]
    problem_ids: Sequence[str]
    categories: Sequence[str] | None
    answer_correct: Sequence[Sequence[bool]]
    finished: Sequence[Sequence[bool]]
    num_tokens: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        verdicts = check_flags(self.answer_correct, "answer_correct")
        check_same_samples(verdicts, "answer_correct", check_flags(self.finished, "finished"), "finished")
        check_same_samples(verdicts, "answer_correct", check_token_counts(self.num_tokens), "num_tokens")
        if not isinstance(self.name, str):
            raise InputError(f"name is {self.name!r}; give a text")
        object.__setattr__(self, "problem_ids", checked_texts(self.problem_ids, "problem_ids", len(verdicts)))
        if self.categories is not None:
            object.__setattr__(self, "categories", checked_texts(self.categories, "categories", len(verdicts)))
        object.__setattr__(self, "context", checked_context(self.context, max(max(row) for row in self.num_tokens)))
        for name, kind in (("answer_correct", bool), ("finished", bool), ("num_tokens", int)):
            object.__setattr__(self, name, [[kind(value) for value in row] for row in getattr(self, name)])

    @property
    def cap(self) -> int:
        """Most tokens that a response could have."""
        cap = self.context["cap"]
        assert isinstance(cap, int), "it is checked when a record is made"
        return cap

    @property
    def drawn_under(self) -> int:
        """The cap that the responses were drawn under; another than `cap` where they were cut afterwards."""
        cap = self.context.get("recut_from", self.cap)
        assert isinstance(cap, int), "`recut` writes it"
        return cap

    @property
    def correct(self) -> list[NDArray[np.bool_]]:
        """Right and ended by EOS: bool [P, S]."""
        return list(self._side.correct[0])

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Accuracy of each problem, float [P]."""
        return self._side.means[0, :, 0].copy()

    @property
    def tokens(self) -> NDArray[np.float64]:
        """Mean response tokens of each problem, float [P]."""
        return self._side.means[0, :, 1].copy()

    @cached_property
    def _side(self) -> Side:
        right, ended = check_flags(self.answer_correct, "answer_correct"), check_flags(self.finished, "finished")
        both = [c & f for c, f in zip(right, ended, strict=True)]
        return Side([both], [ended], [check_token_counts(self.num_tokens)])

    def summary(self, *, seed: int = 0) -> RecordSummary:
        """Every basic quantity with bootstrap intervals over problems. `seed` is the bootstrap's.

        `<name>_interval` holds the interval of `<name>`. A quantity over no response is None.

        With over 5 % of responses cut, `warning` says that the mean length is bounded by the cap.
        """
        return summarise([self], seed=seed)

    def curve(self) -> list[BudgetPoint]:
        """Accuracy, mean tokens and truncation by forced cuts at cap/16, cap/8, cap/4, cap/2 and the cap.

        Budgets are rounded down; those below one token are left out.
        """
        cap = self.cap
        budgets = sorted({cap // share for share in BUDGET_SHARES if cap >= share})
        correct, finished, tokens = self._side.correct[0], self._side.finished[0], self._side.num_tokens[0]
        return [
            BudgetPoint(
                budget=budget,
                accuracy=accuracy_at_budget(correct, tokens, budget, cap=cap),
                mean_tokens=mean_tokens_at_budget(tokens, budget, cap=cap),
                truncation_rate=truncation_at_budget(tokens, finished, budget, cap=cap),
            )
            for budget in budgets
        ]

    def by_category(self) -> dict[str, CategoryNumbers]:
        """Accuracy, mean tokens, truncation and number of problems of each category, in natural order.

        Empty without categories.
        """
        if self.categories is None:
            return {}
        names = np.array(self.categories)
        cut = np.array([np.mean(~np.array(row)) for row in self.finished])
        order = sorted(set(self.categories), key=natural_key)
        return {
            name: CategoryNumbers(
                accuracy=float(self.accuracies[names == name].mean()),
                mean_tokens=float(self.tokens[names == name].mean()),
                truncation_rate=float(cut[names == name].mean()),
                problems=int((names == name).sum()),
            )
            for name in order
        }

    def recut(self, budget: int) -> Record:
        """The same responses cut after `budget` tokens: a forced cut, not a new generation; says so in `context`.

        `recut_from` there is the cap they were drawn under. An answer that the cut takes away is wrong.

        Raises:
            InputError: a budget below 1 or above the record's cap.
        """
        check_budget(budget, self.cap)
        if budget < 1:
            raise InputError(f"budget is {budget}; a record needs a cap of at least 1 token")
        inside = [np.array(row) <= budget for row in self.num_tokens]
        return Record(
            name=f"{self.name}, cut at {budget}",
            context={**self.context, "cap": budget, "recut_from": self.drawn_under},
            problem_ids=self.problem_ids,
            categories=self.categories,
            answer_correct=[(c & i).tolist() for c, i in zip(self.answer_correct, inside, strict=True)],
            finished=[(f & i).tolist() for f, i in zip(self.finished, inside, strict=True)],
            num_tokens=[np.minimum(row, budget).tolist() for row in self.num_tokens],
        )

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all."""
        atomic_write_json(path, {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}, indent=None)

    @classmethod
    def load(cls, path: str | Path) -> Record:
        """Read a record that `save` wrote.

        Raises:
            InputError: no such file, or JSON that is no record.
            CheckpointError: a file that is damaged.
        """
        if not Path(path).is_file():
            raise InputError(f"no such file: {path}; name a record that was saved")
        fields = read_json(path)
        wanted = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or fields.keys() != wanted:
            raise InputError(f"{path} is no record of lengthwise; wanted the fields {', '.join(sorted(wanted))}")
        return cls(**fields)


Runs = Record | Sequence[Record]
"""One record, or those of several seeds."""


def summarise(records: Sequence[Record], *, seed: int = 0) -> RecordSummary:
    """`Record.summary` of one side: the mean over its runs, with intervals over problems and runs.

    Token averages over a subset of the responses are pooled over the runs. The records must be comparable.
    """
    side = side_of(in_one_order(records))
    correct, finished, tokens = over_runs(side.correct), over_runs(side.finished), over_runs(side.num_tokens)
    intervals = side.intervals(np.random.default_rng(seed))
    cut = float(np.mean([truncation_rate(record.finished) for record in records]))
    finished_tokens = subset_mean_tokens(tokens, finished)
    context = records[0].context
    return RecordSummary(
        accuracy=_known(intervals["accuracy"]),
        mean_tokens=_known(intervals["mean_tokens"]),
        truncation_rate=cut,
        tokens_finished=finished_tokens,
        tokens_correct=subset_mean_tokens(tokens, correct),
        tokens_wrong=subset_mean_tokens(tokens, [~row for row in correct]),
        accuracy_given_finished=accuracy_given_finished(correct, finished),
        token_efficiency=token_efficiency(correct, tokens),
        problems=len(records[0].problem_ids),
        responses=int(sum(len(row) for row in finished)),
        cap=records[0].cap,
        temperature=context.get("temperature"),
        warning=cut_warning(cut, records[0].cap, finished_tokens),
        **{f"{name}_interval": interval for name, interval in intervals.items()},
    )


def _known(interval: Interval) -> float:
    assert interval.estimate is not None, "a record has a problem, so its means are defined"
    return interval.estimate


def check_comparable(a: Record, b: Record, *, allow: Sequence[str] = ()) -> None:
    """Refuse to compare records that differ in cap, problems, grader, tokenizer, template, data or sampling.

    `allow` names fields that may differ: of sampling ("temperature", "top_p", "samples") and "model". The order
    of the problems may differ, and so may `intervention`.

    Raises:
        InputError: each differing field with both values; or `allow` names a field that must agree.
    """
    for name in allow:
        if name not in MAY_DIFFER:
            raise InputError(f"allow names {name!r}, which must agree; only {', '.join(MAY_DIFFER)} may differ")
    fields = [*MUST_AGREE, "stop_repeats", *(f for f in MAY_DIFFER if f not in (*allow, "model"))]
    differing = {f: (a.context.get(f), b.context.get(f)) for f in fields if a.context.get(f) != b.context.get(f)}
    parts = [f"{field}: {first!r} and {second!r}" for field, (first, second) in differing.items()]
    only = [Counter(x.problem_ids) - Counter(y.problem_ids) for x, y in ((a, b), (b, a))]
    if any(only):
        parts.append(
            f"problem_ids: {len(a.problem_ids)} and {len(b.problem_ids)} problems, not the same ones "
            f"({only[0].total()} only in the first, {only[1].total()} only in the second)"
        )
    if parts:
        ways = ["measure again alike"]
        if "cap" in differing:
            ways.append("cut both to the smaller cap with recut() (--recut)")
        sampling = [field for field in differing if field in MAY_DIFFER]
        if sampling:
            ways.append(f"allow {', '.join(sampling)} to differ (--allow)")
        named = f"records {a.name!r} and {b.name!r} cannot be compared"
        raise InputError(f"{named}; {'; '.join(parts)}. The way out: {', or '.join(ways)}")


def compare(
    a: Runs, b: Runs, *, seed: int = 0, allow: Sequence[str] = (), weights: Sequence[float] = AES_WEIGHTS
) -> Comparison:
    """What changed from `a` to `b`, each a record or those of several seeds, on the same problems.

    Difference of accuracy (b - a), ratio of mean tokens (b / a), the accuracy-efficiency score with `a` as its
    reference, and `matched`: accuracy of b less that of a's own responses cut to b's mean tokens. Each with a
    bootstrap interval, all on the same draws: of problems, the same ones for both, and of a side's runs where
    it has several. A difference may be claimed only if its interval excludes 0 (a ratio's: 1).

    The score is None where `a` has no right answer, `matched` where b is outside the token range of a's curve.
    `curves`: accuracy of both by forced cuts at fixed budgets, means over runs. `seeds`: every run's own numbers.
    `recut_from`: the cap that each was drawn under, where its responses were cut afterwards. `interventions`:
    what was done to the responses while they were drawn. `unknown`: fields that must agree but stand in no record.

    Raises:
        InputError: records that cannot be compared, or weights that are none.
    """
    first, second = ([side] if isinstance(side, Record) else list(side) for side in (a, b))
    if not first or not second:
        raise InputError(f"a holds {len(first)} records and b {len(second)}; give at least one each")
    every = [*first, *second]
    for record in every:
        check_comparable(every[0], record, allow=allow)
    every = in_one_order(every)
    runs = {"a": every[: len(first)], "b": every[len(first) :]}
    checked = check_weights(weights)
    sides = {side: side_of(records) for side, records in runs.items()}
    found = paired_intervals(sides["a"], sides["b"], weights=checked, rng=np.random.default_rng(seed))
    (accuracy_a, tokens_a), (accuracy_b, tokens_b) = (side.means.mean(axis=(0, 1)) for side in sides.values())
    matched = found["matched"].estimate
    return Comparison(
        a=runs["a"][0].name,
        b=runs["b"][0].name,
        accuracy_difference=found["accuracy_difference"],
        tokens_ratio=found["tokens_ratio"],
        accuracy_efficiency_score=ScoreInterval(
            **vars(found["accuracy_efficiency_score"]),
            weights=checked,
            reference=Reference(float(accuracy_a), float(tokens_a)),
        ),
        matched=MatchedInterval(
            **vars(found["matched"]),
            tokens=float(tokens_b),
            reference_accuracy=None if matched is None else float(accuracy_b - matched),
        ),
        curves={side: mean_curve(records) for side, records in runs.items()},
        seeds={side: per_seed(records) for side, records in runs.items()},
        recut_from={side: _of_all(records, "recut_from") for side, records in runs.items()},
        interventions={side: _of_all(records, "intervention") for side, records in runs.items()},
        unknown=[field for field in MUST_AGREE if all(r.context.get(field) is None for r in every)],
    )


def mean_curve(records: Sequence[Record]) -> list[BudgetPoint]:
    """`Record.curve`, averaged over the runs of one side."""
    return [
        BudgetPoint(
            budget=point[0].budget,
            accuracy=float(np.mean([run.accuracy for run in point])),
            mean_tokens=float(np.mean([run.mean_tokens for run in point])),
            truncation_rate=float(np.mean([run.truncation_rate for run in point])),
        )
        for point in zip(*(record.curve() for record in records), strict=True)
    ]


def per_seed(records: Sequence[Record]) -> list[SeedNumbers]:
    """Name, seed, accuracy, mean tokens and truncation of every run of one side."""
    return [
        SeedNumbers(
            name=record.name,
            seed=record.context.get("seed"),
            accuracy=accuracy(record.correct),
            mean_tokens=mean_tokens(record.num_tokens),
            truncation_rate=truncation_rate(record.finished),
        )
        for record in records
    ]


def side_of(records: Sequence[Record]) -> Side:
    """The runs of one side as arrays; their problems must stand in one order."""
    runs = [(record._side.correct[0], record._side.finished[0], record._side.num_tokens[0]) for record in records]
    return Side(*map(list, zip(*runs, strict=True)))


def _of_all(records: Sequence[Record], field: str) -> JsonValue:
    """A context field of one side: its value, or the list of values where the runs differ."""
    values = [record.context.get(field) for record in records]
    return values[0] if all(value == values[0] for value in values) else values


def in_one_order(records: Sequence[Record]) -> list[Record]:
    """The records with their problems in the first one's order; ids that repeat are taken in turn."""
    ids = list(records[0].problem_ids)
    wanted = sorted(range(len(ids)), key=ids.__getitem__)
    moved = []
    for record in records:
        if list(record.problem_ids) == ids:
            moved.append(record)
            continue
        own = sorted(range(len(ids)), key=record.problem_ids.__getitem__)
        order = [place for _, place in sorted(zip(wanted, own, strict=True))]
        moved.append(
            dataclasses.replace(
                record,
                problem_ids=ids,
                categories=None if record.categories is None else [record.categories[i] for i in order],
                answer_correct=[record.answer_correct[i] for i in order],
                finished=[record.finished[i] for i in order],
                num_tokens=[record.num_tokens[i] for i in order],
            )
        )
    return moved
