"""Records: what they carry, what they refuse to compare, and what a comparison says (spec page metrics)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lengthwise.errors import CheckpointError, ConfigError, InputError, ShapeError
from lengthwise.statistics import Record, accuracy_efficiency_score, check_comparable, compare
from lengthwise.statistics.records import summarise

CONTEXT = {
    "model": "tiny",
    "data": "chains",
    "template": "0123",
    "cap": 1000,
    "temperature": 1.0,
    "top_p": 1.0,
    "samples": 3,
    "seed": 0,
    "grader": "lengthwise-lab/1",
    "tokenizer": "words/9",
}


def record(**changes) -> Record:
    """The record of spec page metrics, section 8: one answer is right but was cut."""
    fields = {
        "name": "before",
        "context": CONTEXT,
        "problem_ids": ["p0", "p1"],
        "categories": ["2", "10"],
        "answer_correct": [[1, 1, 0], [1, 1, 0]],
        "finished": [[1, 1, 1], [1, 0, 1]],
        "num_tokens": [[100, 400, 900], [200, 1000, 1000]],
    }
    return Record(**{**fields, **changes})


def with_context(**changes) -> Record:
    return record(name="after", context={**CONTEXT, **changes})


def big(seed: int, *, share: float = 0.6, most: int = 1000, problems: int = 40) -> Record:
    make = np.random.default_rng(seed)
    finished = make.random((problems, 4)) < 0.9
    tokens = make.integers(1, most + 1, (problems, 4))
    tokens[~finished] = most
    return record(
        name=f"run {seed}",
        problem_ids=[f"p{i}" for i in range(problems)],
        categories=None,
        answer_correct=make.random((problems, 4)) < share,
        finished=finished,
        num_tokens=tokens,
    )


# ---- fields and summary -------------------------------------------------------------------------------------


def test_a_cut_answer_is_wrong():
    assert [row.tolist() for row in record().correct] == [[True, True, False], [True, False, False]]


def test_metrics_8_summary_has_the_numbers():
    summary = record().summary(seed=0)
    expected = {
        "accuracy": 0.5,
        "mean_tokens": 600,
        "truncation_rate": 1 / 6,
        "tokens_finished": 520,
        "tokens_correct": 700 / 3,
        "tokens_wrong": 2900 / 3,
        "accuracy_given_finished": 0.6,
        "token_efficiency": 5 / 6,
        "problems": 2,
        "responses": 6,
        "cap": 1000,
    }
    for name, value in expected.items():
        assert getattr(summary, name) == pytest.approx(value), name
    assert json.loads(json.dumps(summary.to_dict(), allow_nan=False))["accuracy"] == 0.5


def test_metrics_6_every_quantity_has_its_interval_around_the_same_estimate():
    summary = big(1).summary(seed=0)
    names = [name.removesuffix("_interval") for name in summary.to_dict() if name.endswith("_interval")]
    assert set(names) == {
        "accuracy",
        "mean_tokens",
        "truncation_rate",
        "tokens_finished",
        "tokens_correct",
        "tokens_wrong",
        "accuracy_given_finished",
        "token_efficiency",
    }
    for name in names:
        interval, value = getattr(summary, f"{name}_interval"), getattr(summary, name)
        assert interval.estimate == pytest.approx(value), name
        assert interval.low < value < interval.high, name


def test_summary_repeats_with_its_seed_and_moves_with_another():
    run = big(2)
    assert run.summary(seed=3) == run.summary(seed=3) != run.summary(seed=4)


def test_metrics_5_warning_only_above_five_percent_cut():
    # 1 of 6 responses cut
    assert record().summary().warning == (
        "16.7% of the responses were cut at 1000 tokens: the mean length is bounded by the cap; "
        "finished responses have 520.0"
    )
    # 1 of 20 cut is not above 5 %
    ok = record(
        problem_ids=["p"], categories=None, answer_correct=[[1] * 20], finished=[[0] + [1] * 19], num_tokens=[[9] * 20]
    )
    assert ok.summary().warning is None
    all_cut = record(finished=[[0] * 3, [0] * 3])
    assert all_cut.summary().tokens_finished is None
    assert all_cut.summary().tokens_finished_interval.estimate is None
    assert "finished responses have none" in all_cut.summary().warning


def test_by_category_in_natural_order():
    table = record().by_category()
    assert list(table) == ["2", "10"]
    assert table["10"].to_dict() == pytest.approx(
        {"accuracy": 1 / 3, "mean_tokens": 2200 / 3, "truncation_rate": 1 / 3, "problems": 1}
    )
    assert record(categories=None).by_category() == {}
    assert list(record(categories=["easy", "3"]).by_category()) == ["3", "easy"]


def test_metrics_7_uneven_samples_weigh_problems_equally():
    uneven = record(answer_correct=[[1], [0, 0, 0]], finished=[[1], [1, 1, 1]], num_tokens=[[100], [400, 400, 400]])
    summary = uneven.summary()
    assert (summary.accuracy, summary.mean_tokens, summary.responses) == (0.5, 250, 4)


def test_metrics_6_curve_at_halved_budgets():
    # cap 1000: 62, 125, 250, 500, 1000; right answers at 100, 400 and 200 tokens
    curve = record().curve()
    assert [point.budget for point in curve] == [62, 125, 250, 500, 1000]
    assert [point.accuracy for point in curve] == pytest.approx([0, 1 / 6, 1 / 3, 1 / 2, 1 / 2])
    assert curve[-1].mean_tokens == 600
    assert curve[-1].truncation_rate == pytest.approx(1 / 6)
    small = record(
        context={**CONTEXT, "cap": 3},
        problem_ids=["p"],
        categories=None,
        answer_correct=[[1]],
        finished=[[1]],
        num_tokens=[[3]],
    )
    assert [point.budget for point in small.curve()] == [1, 3]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"problem_ids": ["p0"]}, InputError, "problem_ids has 1 entries for 2 problems"),
        ({"categories": ["1"]}, InputError, "categories has 1 entries for 2 problems"),
        ({"finished": [[1, 1, 1], [1, 0]]}, ShapeError, "problem 1: answer_correct has 3 samples but finished has 2"),
        ({"num_tokens": [[100, 400, 900]]}, ShapeError, "answer_correct has 2 problems but num_tokens has 1"),
        ({"num_tokens": [[100, 400, 900], [200, 1000, 1001]]}, InputError, "num_tokens holds 1001 but the cap is 1000"),
        ({"num_tokens": [[1.5, 400, 900], [200, 1000, 1000]]}, InputError, "integer >= 0"),
        ({"answer_correct": [[2, 1, 0], [1, 1, 0]]}, InputError, "one True or False per sample"),
        ({"problem_ids": "ab"}, InputError, "problem_ids is 'ab'; give one text per problem"),
        ({"problem_ids": [1, 2]}, InputError, r"problem_ids is \[1, 2\]"),
        ({"problem_ids": None}, InputError, "problem_ids is None"),
        ({"categories": [1, 2]}, InputError, r"categories is \[1, 2\]"),
        ({"name": 3}, InputError, "name is 3"),
        ({"context": [1]}, InputError, r"context is \[1\]; give a mapping"),
        ({"context": {"model": "tiny"}}, InputError, "context has no 'cap'"),
        ({"context": {"cap": "1000"}}, InputError, "context has the cap '1000'"),
        ({"context": {"cap": 1000.5}}, InputError, "context has the cap 1000.5"),
        ({"context": {"cap": True}}, InputError, "context has the cap True"),
        ({"context": {"cap": 1000, "model": object()}}, InputError, "context cannot be written as JSON"),
        ({"context": {"cap": 1000, "temperature": float("nan")}}, InputError, "context cannot be written as JSON"),
    ],
)
def test_bad_fields_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        record(**changes)


# ---- files --------------------------------------------------------------------------------------------------


def test_save_and_load_give_the_same_record(tmp_path):
    made = record(answer_correct=np.array([[1, 1, 0], [1, 1, 0]], dtype=bool), context={**CONTEXT, "eos": (1, 2)})
    made.save(tmp_path / "records" / "a.json")
    assert Record.load(tmp_path / "records" / "a.json") == made
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"name": "x"}'])
def test_load_refuses_json_that_is_no_record(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json is no record of lengthwise; wanted the fields answer_correct"):
        Record.load(tmp_path / "a.json")


def test_load_refuses_a_missing_and_a_damaged_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Record.load(tmp_path / "none.json")
    record().save(tmp_path / "a.json")
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text()[:50])
    with pytest.raises(CheckpointError, match=r"a\.json is damaged"):
        Record.load(tmp_path / "a.json")


# ---- recut --------------------------------------------------------------------------------------------------


def test_metrics_8_recut_gives_the_numbers_at_the_budget_and_says_so():
    # metrics 8, budget 300: accuracy 1/3, truncation 2/3, mean tokens 250
    cut = record().recut(300)
    summary = cut.summary()
    assert (summary.accuracy, summary.truncation_rate, summary.mean_tokens) == pytest.approx((1 / 3, 2 / 3, 250))
    assert (cut.context["cap"], cut.context["recut_from"]) == (300, 1000)
    assert cut.name == "before, cut at 300"
    assert cut.answer_correct == [[True, False, False], [True, False, False]]
    assert record().context == CONTEXT


def test_recut_twice_remembers_the_first_cap_and_equals_one_cut():
    twice = record().recut(500).recut(300)
    assert twice.context["recut_from"] == 1000
    assert (twice.num_tokens, twice.finished) == (record().recut(300).num_tokens, record().recut(300).finished)


def test_recut_at_the_cap_keeps_every_number():
    assert record().recut(1000).summary().accuracy == 0.5
    assert record().recut(1000).num_tokens == record().num_tokens


@pytest.mark.parametrize(("budget", "message"), [(1001, "budget is 1001"), (0, "budget is 0"), (-1, "budget is -1")])
def test_metrics_5_recut_refuses_upwards_and_nothing(budget, message):
    with pytest.raises(ValueError, match=message):
        record().recut(budget)


# ---- comparing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cap", 2000),
        ("data", "other"),
        ("grader", "mine:fn"),
        ("tokenizer", "words/10"),
        ("template", "4567"),
        ("temperature", 0.6),
        ("top_p", 0.95),
        ("samples", 4),
    ],
)
def test_metrics_5_unlike_records_are_refused_with_the_field_and_both_values(field, value):
    with pytest.raises(ValueError, match=f"{field}: {CONTEXT[field]!r} and {value!r}"):
        check_comparable(record(), with_context(**{field: value}))


def test_every_differing_field_is_listed():
    other = record(context={**CONTEXT, "cap": 2000, "grader": "x"}, problem_ids=["p0", "p9"])
    with pytest.raises(InputError) as caught:
        compare(record(), other)
    for part in (
        "cap: 1000 and 2000",
        "grader: 'lengthwise-lab/1' and 'x'",
        "problem_ids: 2 and 2 problems, not the same ones (1 only in the first, 1 only in the second)",
        "The way out: measure again alike, or cut both to the smaller cap with recut() (--recut)",
    ):
        assert part in str(caught.value)


def test_another_model_and_seed_are_what_one_compares():
    check_comparable(record(), with_context(model="tiny, shortened", seed=1))


@pytest.mark.parametrize("field", ["temperature", "top_p", "samples"])
def test_metrics_5_sampling_differences_need_to_be_allowed(field):
    check_comparable(record(), with_context(**{field: 7}), allow=(field,))


@pytest.mark.parametrize("field", ["cap", "grader", "problem_ids", "nonsense"])
def test_nothing_else_can_be_allowed(field):
    with pytest.raises(InputError, match=f"allow names '{field}', which must agree"):
        check_comparable(record(), record(), allow=(field,))


def test_metrics_5_records_of_unlike_caps_compare_after_a_recut():
    longer = with_context(cap=2000)
    with pytest.raises(InputError, match="cap: 1000 and 2000"):
        compare(record(), longer)
    result = compare(record(), longer.recut(1000))
    assert result.recut_from == {"a": None, "b": 2000}


def test_metrics_6_compare_gives_paired_intervals_and_the_score_with_its_reference():
    a, b = big(1), big(2, share=0.7, most=500)
    result = compare(a, b, seed=5, weights=(1, 5, 10))
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == result.to_dict()
    assert result.accuracy_difference.estimate == pytest.approx(b.accuracies.mean() - a.accuracies.mean())
    assert result.tokens_ratio.estimate == pytest.approx(b.tokens.mean() / a.tokens.mean())
    assert result.tokens_ratio.high < 1
    score = result.accuracy_efficiency_score
    expected = accuracy_efficiency_score(
        accuracy=b.accuracies.mean(),
        tokens=b.tokens.mean(),
        accuracy_ref=a.accuracies.mean(),
        tokens_ref=a.tokens.mean(),
        weights=(1, 5, 10),
    )
    assert score.estimate == pytest.approx(expected)
    assert score.low < score.estimate < score.high
    assert score.weights == (1, 5, 10)
    assert score.reference.to_dict() == pytest.approx({"accuracy": a.accuracies.mean(), "tokens": a.tokens.mean()})
    assert result.curves == {"a": a.curve(), "b": b.curve()}
    assert (result.a, result.b) == ("run 1", "run 2")


def test_metrics_9_a_record_against_itself_differs_by_nothing():
    run = big(3)
    result = compare(run, run)
    neutral = {"accuracy_difference": 0, "tokens_ratio": 1, "accuracy_efficiency_score": 0, "matched": 0}
    for name, value in neutral.items():
        assert (getattr(result, name).estimate, *getattr(result, name).ends) == (value, value, value)


def test_metrics_7_a_reference_without_right_answers_has_no_score():
    result = compare(big(4, share=0.0), big(5))
    assert result.accuracy_efficiency_score.estimate is None
    assert result.accuracy_efficiency_score.low is None


def test_bad_weights_are_named():
    with pytest.raises((InputError, ConfigError), match="weights is"):
        compare(record(), record(), weights=(1, 3))


# ---- equal tokens: the baseline's own answers cut ----------------------------------------------------------


def shorter(**changes) -> Record:
    """The problems of `record()` with other answers: 300 tokens on average, 4 of 6 right."""
    fields = {"name": "after", "answer_correct": [[1, 1, 0], [1, 1, 0]], "finished": [[1, 1, 1], [1, 1, 1]]}
    return record(**{**fields, "num_tokens": [[100, 200, 600], [200, 300, 400]], **changes})


def test_metrics_3_matched_by_hand():
    # The baseline's lengths 100, 200, 400, 900, 1000, each a budget:
    #   mean tokens 100, (100 + 5 * 200)/6 = 183.33, (100 + 200 + 4 * 400)/6 = 316.67, 566.67, 600
    #   right            1/6,              2/6,                             3/6,      3/6,  3/6
    # 300 tokens lie 7/8 of the way from 183.33 to 316.67: 2/6 + 7/8 * 1/6 = 23/48
    matched = compare(record(), shorter()).matched
    assert matched.tokens == pytest.approx(300)
    assert matched.reference_accuracy == pytest.approx(23 / 48)
    assert matched.estimate == pytest.approx(4 / 6 - 23 / 48)


def test_metrics_3_matched_is_none_outside_the_baselines_range():
    # 100 tokens are the shortest cut that costs as little as the baseline's shortest answer; 700 are above its mean
    inside = shorter(num_tokens=[[100] * 3, [100] * 3])
    below = shorter(num_tokens=[[99] * 3, [99] * 3])
    above = shorter(num_tokens=[[700] * 3, [700] * 3])
    assert compare(record(), inside).matched.reference_accuracy == pytest.approx(1 / 6)
    for outside in (below, above):
        matched = compare(record(), outside).matched
        assert (matched.estimate, matched.low, matched.reference_accuracy) == (None, None, None)


def test_matched_interval_recomputes_the_curve_in_every_draw():
    # Better by exactly .25 on every problem than the baseline at every cut that costs as much: with the curve
    # drawn anew the interval has no width, with the curve of the whole data it would have.
    problems = 20
    lengths = [[100 * (1 + p % 5)] * 4 for p in range(problems)]
    base = record(
        problem_ids=[f"p{i}" for i in range(problems)], categories=None, num_tokens=lengths,
        answer_correct=[[True, True, False, False]] * problems, finished=[[True] * 4] * problems,
    )  # fmt: skip
    better = record(
        problem_ids=base.problem_ids, categories=None, num_tokens=lengths,
        answer_correct=[[True, True, True, False]] * problems, finished=[[True] * 4] * problems,
    )  # fmt: skip
    matched = compare(base, better).matched
    assert (matched.estimate, matched.low, matched.high) == pytest.approx((0.25, 0.25, 0.25))


# ---- several seeds ------------------------------------------------------------------------------------------


def test_metrics_4_several_seeds_report_each_and_the_mean():
    a = [big(seed) for seed in (1, 2, 3)]
    b = [big(seed, share=0.8, most=600) for seed in (4, 5)]
    result = compare(a, b)
    assert [run.accuracy for run in result.seeds["a"]] == pytest.approx([r.accuracies.mean() for r in a])
    assert [run.mean_tokens for run in result.seeds["b"]] == pytest.approx([r.tokens.mean() for r in b])
    means = [np.mean([run.accuracy for run in result.seeds[side]]) for side in ("a", "b")]
    assert result.accuracy_difference.estimate == pytest.approx(means[1] - means[0])
    tokens = [np.mean([run.mean_tokens for run in result.seeds[side]]) for side in ("a", "b")]
    assert result.tokens_ratio.estimate == pytest.approx(tokens[1] / tokens[0])
    assert result.accuracy_efficiency_score.reference.to_dict() == pytest.approx(
        {"accuracy": means[0], "tokens": tokens[0]}
    )
    assert result.curves["a"][-1].accuracy == pytest.approx(means[0])
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == result.to_dict()


def test_one_record_in_a_list_is_that_record():
    a, b = big(1), big(2)
    assert compare([a], [b]) == compare(a, b)
    assert summarise([a], seed=3) == a.summary(seed=3)


def test_summary_of_several_seeds_is_their_mean():
    runs = [big(seed) for seed in (1, 2, 3)]
    summary = summarise(runs)
    alone = [run.summary() for run in runs]
    for name in ("accuracy", "mean_tokens", "truncation_rate"):
        assert getattr(summary, name) == pytest.approx(np.mean([getattr(one, name) for one in alone])), name
        assert getattr(summary, f"{name}_interval").estimate == pytest.approx(getattr(summary, name)), name
    # pooled: the tokens of all finished responses over their number
    finished = np.concatenate([np.array(run.num_tokens)[np.array(run.finished)] for run in runs])
    assert summary.tokens_finished == pytest.approx(np.mean(finished))
    assert summary.tokens_finished_interval.estimate == pytest.approx(summary.tokens_finished)
    assert summary.responses == 3 * 160


def test_seeds_of_one_side_must_be_alike_too():
    other = big(2)
    longer = record(**{**vars_of(other), "context": {**CONTEXT, "cap": 2000}})
    with pytest.raises(InputError, match="cap: 1000 and 2000"):
        compare(big(1), [big(3), longer])


def vars_of(made: Record) -> dict:
    return {name: getattr(made, name) for name in Record.__dataclass_fields__}


@pytest.mark.parametrize(("a", "b"), [([], "b"), ("a", [])])
def test_a_side_needs_a_record(a, b):
    sides = [big(1) if side in ("a", "b") else side for side in (a, b)]
    with pytest.raises(InputError, match="give at least one each"):
        compare(*sides)


# ---- what may differ ----------------------------------------------------------------------------------------


def moved(made: Record, order: list[int], name: str = "moved") -> Record:
    rows = {
        key: [getattr(made, key)[i] for i in order]
        for key in ("problem_ids", "answer_correct", "finished", "num_tokens")
    }
    return record(**{**vars_of(made), **rows, "name": name, "categories": None})


@pytest.mark.parametrize("seed", range(3))
def test_metrics_9_the_order_of_problems_does_not_matter(seed):
    a, b = big(1), big(2, share=0.8, most=500)
    order = np.random.default_rng(seed).permutation(40).tolist()
    assert compare(a, moved(b, order, b.name)) == compare(a, b)


def test_problem_ids_that_repeat_are_paired_in_turn():
    ids = [f"p{i // 2}" for i in range(40)]
    a, b = (record(**{**vars_of(big(seed)), "problem_ids": ids}) for seed in (1, 2))
    order = [i + 1 if i % 2 == 0 else i - 1 for i in range(40)][::-1]
    result = compare(a, moved(b, order, b.name))
    assert result.accuracy_difference.estimate == compare(a, b).accuracy_difference.estimate
    with pytest.raises(InputError, match="1 only in the first, 1 only in the second"):
        compare(a, record(**{**vars_of(b), "problem_ids": ["p1", *ids[1:]]}))


def test_an_intervention_is_no_reason_to_refuse_and_is_shown():
    budget = with_context(intervention={"budget": 512})
    result = compare(record(), budget)
    assert result.interventions == {"a": None, "b": {"budget": 512}}
    two = compare(record(), [budget, with_context(intervention={"budget": 256})])
    assert two.interventions["b"] == [{"budget": 512}, {"budget": 256}]


def test_fields_that_no_record_carries_are_named():
    bare = record(context={"cap": 1000, "data": "d", "grader": "g"})
    assert compare(bare, bare).unknown == ["tokenizer", "template"]
    assert compare(record(), record()).unknown == []
    with pytest.raises(InputError, match="tokenizer: 'words/9' and None"):
        compare(record(), bare)
