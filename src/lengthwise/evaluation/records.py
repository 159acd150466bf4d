"""Records of a measurement: its numbers with their context, and the rules for comparing two of them.

Unlike caps, problems, graders, tokenizers or templates are never compared; see `check_comparable`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lengthwise.errors import InputError
from lengthwise.evaluation.bootstrap import (
    Interval,
    Metric,
    cluster_bootstraps,
    mean_interval,
    paired_difference,
    paired_efficiency_score,
    ratio_interval,
    ratio_of_columns,
)
from lengthwise.evaluation.metrics import (
    accuracy_at_budget,
    accuracy_given_finished,
    check_budget,
    check_flags,
    check_same_samples,
    check_token_counts,
    mean_tokens_at_budget,
    subset_mean_tokens,
    token_efficiency,
    truncation_at_budget,
    truncation_rate,
)
from lengthwise.evaluation.scores import AES_WEIGHTS, check_weights
from lengthwise.files import atomic_write_json, read_json

MUST_AGREE = ("cap", "data", "grader", "tokenizer", "template")
MAY_DIFFER = ("temperature", "top_p", "samples", "model")
CUT_WARNING = 0.05
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
    context: Mapping[str, Any]
    problem_ids: Sequence[str]
    categories: Sequence[str] | None
    answer_correct: Sequence[Sequence[bool]]
    finished: Sequence[Sequence[bool]]
    num_tokens: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        verdicts = check_flags(self.answer_correct, "answer_correct")
        check_same_samples(verdicts, "answer_correct", check_flags(self.finished, "finished"), "finished")
        check_same_samples(verdicts, "answer_correct", check_token_counts(self.num_tokens), "num_tokens")
        for name in ("problem_ids", "categories"):
            values = getattr(self, name)
            if values is not None and len(values) != len(verdicts):
                raise InputError(f"{name} has {len(values)} entries for {len(verdicts)} problems; give one each")
        if "cap" not in self.context:
            raise InputError("context has no 'cap'; a length without its cap cannot be compared with any other")
        longest = max(max(row) for row in self.num_tokens)
        if longest > self.context["cap"]:
            raise InputError(f"num_tokens holds {longest} but the cap is {self.context['cap']}; give the cap they had")
        try:
            # What JSON gives back, so that a loaded record equals the saved one.
            context = json.loads(json.dumps(dict(self.context), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InputError(f"context cannot be written as JSON ({error}); use text, numbers and lists") from error
        object.__setattr__(self, "context", context)
        object.__setattr__(self, "problem_ids", list(self.problem_ids))
        for name, kind in (("answer_correct", bool), ("finished", bool), ("num_tokens", int)):
            object.__setattr__(self, name, [[kind(value) for value in row] for row in getattr(self, name)])

    @property
    def correct(self) -> list[NDArray[np.bool_]]:
        """Right and ended by EOS: bool [P, S]."""
        right = check_flags(self.answer_correct, "answer_correct")
        return [c & f for c, f in zip(right, check_flags(self.finished, "finished"), strict=True)]

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Accuracy of each problem, float [P]."""
        return np.array([row.mean() for row in self.correct])

    @property
    def tokens(self) -> NDArray[np.float64]:
        """Mean response tokens of each problem, float [P]."""
        return np.array([np.mean(row) for row in self.num_tokens])

    def summary(self, *, seed: int = 0) -> dict[str, Any]:
        """Every basic quantity with bootstrap intervals over problems; JSON-ready. `seed` is the bootstrap's.

        `<name>_interval` holds the interval of `<name>`. A quantity over no response is None.

        With over 5 % of responses cut, `warning` says that the mean length is bounded by the cap.
        """
        rng = np.random.default_rng(seed)
        correct, finished = self.correct, check_flags(self.finished, "finished")
        accuracy, tokens = mean_interval(self.accuracies, rng=rng), mean_interval(self.tokens, rng=rng)
        cut = truncation_rate(finished)
        finished_tokens = subset_mean_tokens(self.num_tokens, finished)
        warning = None
        if cut > CUT_WARNING:
            shown = "none" if finished_tokens is None else f"{finished_tokens:.1f}"
            warning = (
                f"{cut:.1%} of the responses were cut at {self.context['cap']} tokens: the mean length is bounded "
                f"by the cap; finished responses have {shown}"
            )
        return {
            "accuracy": accuracy.estimate,
            "accuracy_interval": accuracy.to_dict(),
            "mean_tokens": tokens.estimate,
            "mean_tokens_interval": tokens.to_dict(),
            "truncation_rate": cut,
            "tokens_finished": finished_tokens,
            "tokens_correct": subset_mean_tokens(self.num_tokens, correct),
            "tokens_wrong": subset_mean_tokens(self.num_tokens, [~row for row in correct]),
            "accuracy_given_finished": accuracy_given_finished(correct, finished),
            "token_efficiency": token_efficiency(correct, self.num_tokens),
            "problems": len(self.problem_ids),
            "responses": int(sum(len(row) for row in finished)),
            "cap": self.context["cap"],
            "temperature": self.context.get("temperature"),
            "warning": warning,
            **{f"{name}_interval": interval.to_dict() for name, interval in self._pooled_intervals(rng).items()},
        }

    def _pooled_intervals(self, rng: np.random.Generator) -> dict[str, Interval]:
        right, ended = self.correct, check_flags(self.finished, "finished")
        tokens = check_token_counts(self.num_tokens)
        samples = zip(right, ended, tokens, strict=True)
        # Per problem: share cut, then sums over its samples of ended, right, wrong and their tokens.
        columns = [
            [(~f).mean(), f.sum(), c.sum(), (~c).sum(), (f * n).sum(), (c * n).sum(), (~c * n).sum(), n.sum()]
            for c, f, n in samples
        ]
        efficiency = ratio_of_columns(2, 7)
        metrics: dict[str, Metric] = {
            "truncation_rate": lambda means: means[:, 0],
            "tokens_finished": ratio_of_columns(4, 1),
            "tokens_correct": ratio_of_columns(5, 2),
            "tokens_wrong": ratio_of_columns(6, 3),
            "accuracy_given_finished": ratio_of_columns(2, 1),
            "token_efficiency": lambda means: 1000 * efficiency(means),
        }
        return cluster_bootstraps(columns, metrics, rng=rng)

    def curve(self) -> list[dict[str, Any]]:
        """Accuracy, mean tokens and truncation by forced cuts at cap/16, cap/8, cap/4, cap/2 and the cap.

        Budgets are rounded down; those below one token are left out.
        """
        cap = int(self.context["cap"])
        budgets = sorted({cap // share for share in BUDGET_SHARES if cap >= share})
        return [
            {
                "budget": budget,
                "accuracy": accuracy_at_budget(self.correct, self.num_tokens, budget, cap=cap),
                "mean_tokens": mean_tokens_at_budget(self.num_tokens, budget, cap=cap),
                "truncation_rate": truncation_at_budget(self.num_tokens, self.finished, budget, cap=cap),
            }
            for budget in budgets
        ]

    def by_category(self) -> dict[str, dict[str, float]]:
        """Accuracy, mean tokens, truncation and number of problems of each category, in natural order.

        Empty without categories.
        """
        if self.categories is None:
            return {}
        names = np.array(self.categories)
        cut = np.array([np.mean(~np.array(row)) for row in self.finished])
        order = sorted(set(self.categories), key=lambda c: (not c.isdigit(), int(c) if c.isdigit() else 0, c))
        return {
            name: {
                "accuracy": float(self.accuracies[names == name].mean()),
                "mean_tokens": float(self.tokens[names == name].mean()),
                "truncation_rate": float(cut[names == name].mean()),
                "problems": int((names == name).sum()),
            }
            for name in order
        }

    def recut(self, budget: int) -> Record:
        """The same responses cut after `budget` tokens: a forced cut, not a new generation; says so in `context`.

        `recut_from` there is the cap they were drawn under. An answer that the cut takes away is wrong.

        Raises:
            InputError: a budget below 1 or above the record's cap.
        """
        check_budget(budget, int(self.context["cap"]))
        if budget < 1:
            raise InputError(f"budget is {budget}; a record needs a cap of at least 1 token")
        tokens = [[min(int(n), budget) for n in row] for row in self.num_tokens]
        ended = [
            [bool(f) and int(n) <= budget for f, n in zip(fs, ns, strict=True)]
            for fs, ns in zip(self.finished, self.num_tokens, strict=True)
        ]
        kept = [
            [bool(c) and int(n) <= budget for c, n in zip(cs, ns, strict=True)]
            for cs, ns in zip(self.answer_correct, self.num_tokens, strict=True)
        ]
        drawn_under = self.context.get("recut_from", self.context["cap"])
        return Record(
            name=f"{self.name}, cut at {budget}",
            context={**self.context, "cap": budget, "recut_from": drawn_under},
            problem_ids=self.problem_ids,
            categories=self.categories,
            answer_correct=kept,
            finished=ended,
            num_tokens=tokens,
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


def check_comparable(a: Record, b: Record, *, allow: Sequence[str] = ()) -> None:
    """Refuse to compare records that differ in cap, problems, grader, tokenizer, template, data or sampling.

    `allow` names fields that may differ: of sampling ("temperature", "top_p", "samples") and "model".

    Raises:
        InputError: each differing field with both values; or `allow` names a field that must agree.
    """
    for name in allow:
        if name not in MAY_DIFFER:
            raise InputError(f"allow names {name!r}, which must agree; only {', '.join(MAY_DIFFER)} may differ")
    fields = [*MUST_AGREE, *(f for f in MAY_DIFFER if f not in (*allow, "model"))]
    differing = [
        f"{field}: {a.context.get(field)!r} and {b.context.get(field)!r}"
        for field in fields
        if a.context.get(field) != b.context.get(field)
    ]
    if list(a.problem_ids) != list(b.problem_ids):
        differing.append(f"problem_ids: {len(a.problem_ids)} and {len(b.problem_ids)} problems, not the same ones")
    if differing:
        raise InputError(
            f"records {a.name!r} and {b.name!r} cannot be compared; {'; '.join(differing)}. Measure again alike, or "
            "cut both to the smaller cap with recut()"
        )


def compare(
    a: Record, b: Record, *, seed: int = 0, allow: Sequence[str] = (), weights: Sequence[float] = AES_WEIGHTS
) -> dict[str, Any]:
    """What changed from record `a` to record `b` on the same problems, paired, JSON-ready.

    Difference of accuracy (b - a), ratio of mean tokens (b / a) and the accuracy-efficiency score with `a` as
    its reference, each with a bootstrap interval; a difference may be claimed only if its interval excludes 0.
    The score is None where `a` has no right answer. `curves`: accuracy of both by forced cuts. `recut_from`:
    the cap that each was drawn under, where its responses were cut afterwards.
    """
    check_comparable(a, b, allow=allow)
    rng = np.random.default_rng(seed)
    score: Interval = paired_efficiency_score(b.accuracies, b.tokens, a.accuracies, a.tokens, rng=rng, weights=weights)
    return {
        "a": a.name,
        "b": b.name,
        "accuracy_difference": paired_difference(a.accuracies, b.accuracies, rng=rng).to_dict(),
        "tokens_ratio": ratio_interval(b.tokens, a.tokens, rng=rng).to_dict(),
        "accuracy_efficiency_score": {
            **score.to_dict(),
            "weights": list(check_weights(weights)),
            "reference": {"accuracy": float(a.accuracies.mean()), "tokens": float(a.tokens.mean())},
        },
        "curves": {"a": a.curve(), "b": b.curve()},
        "recut_from": {"a": a.context.get("recut_from"), "b": b.context.get("recut_from")},
    }
