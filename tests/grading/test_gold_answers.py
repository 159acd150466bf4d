"""Reference answers that are lists: parts of one answer or alternatives, in every place that grades."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner
from wordlog import word_tokenizer, write_log

from lengthwise.cli import app
from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.gold_answers import alternatives, read_gold
from lengthwise.grading.graders import grade, load_grader
from lengthwise.grading.problems import prepare
from lengthwise.grading.prompt_contract import PromptContract, gold_answer, preset
from lengthwise.grading.worker_pool import SafeGrader
from lengthwise.logs.token_breakdown import Body, dissect

# ---- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "parts", "either"),
    [
        (["2", "9"], "2, 9", ["2", "9"]),
        (("2", "9"), "2, 9", ["2", "9"]),
        ([2, 9.0], "2, 9", ["2", "9"]),
        ([0.5, Fraction(1, 3)], "0.5, 1/3", ["0.5", "1/3"]),
        (["1,000", "2"], "1000, 2", ["1,000", "2"]),  # commas part the entries
        ([r"\boxed{\frac12}", "#### 3"], r"\frac12, 3", [r"\frac12", "3"]),
        (["(1, 2)", "(3, 4)"], "(1, 2), (3, 4)", ["(1, 2)", "(3, 4)"]),
        (["18"], "18", ["18"]),
        ([18], "18", ["18"]),
        ([["2", "9"]], "2, 9", ["2, 9"]),
        ([["2", "9"], ["11"]], "2, 9, 11", ["2, 9", "11"]),  # an inner list holds parts
        ([[1, 2], 3], "1, 2, 3", ["1, 2", "3"]),
        (["2", "2"], "2, 2", ["2"]),
        ('["2", "9"]', "2, 9", ["2", "9"]),  # as tables write lists
        (' [ "18" ]', "18", ["18"]),
        ("[2, 9]", "[2, 9]", ["[2, 9]"]),  # an interval
        ('["2", 9]', '["2", 9]', ['["2", 9]']),
        ('["2"', '["2"', ['["2"']),
        ("2, 9", "2, 9", ["2, 9"]),
    ],
)
def test_entries_are_parts_or_alternatives(value, parts, either):
    assert read_gold(value, "math") == read_gold(value, "math", answers="all") == parts
    assert alternatives(read_gold(value, "math", answers="any")) == either
    assert alternatives(parts) == [parts]


@pytest.mark.parametrize("answers", ["all", "any"])
@pytest.mark.parametrize("form", ["math", "auto", "gsm8k", "lab"])
@pytest.mark.parametrize(
    "value", [[], "", [""], ["2", ""], ["2", []], [[]], [None], ["2", None], [{}], ["2", float("nan")]]
)
def test_what_holds_no_answer_is_refused(value, form, answers):
    with pytest.raises(InputError, match="holds no answer|wanted text, a finite number|wants a number"):
        read_gold(value, form, answers=answers)


def test_formats_of_one_number_know_alternatives_only():
    for form in ("gsm8k", "aime"):
        assert read_gold(["018"], form) == "18"
        assert alternatives(read_gold(["018", 9], form, answers="any")) == ["18", "9"]
        with pytest.raises(
            InputError, match=r"parts of one answer; .* wants one number\. If they are alternatives use"
        ):
            read_gold(["18", "9"], form)


def test_reading_twice_changes_nothing():
    for value in (["2", "9"], [["2", "9"], 11], ['"x"', "]"], [r"\text{a, b}", "c"], "1/2"):
        for answers in ("all", "any"):
            once = read_gold(value, "math", answers=answers)
            assert read_gold(once, "math", answers=answers) == once


def test_a_hostile_list_is_text():
    deep = '["a", ' + "[" * 200_000
    assert read_gold(deep, "math") == deep


# ---- grading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "response", "by_all", "by_any"),
    [
        (["2", "9"], r"\boxed{2}", False, True),
        (["2", "9"], r"\boxed{9}", False, True),
        (["2", "9"], r"\boxed{2, 9}", True, False),
        (["2", "9"], r"\boxed{9} and \boxed{2}", True, False),
        (["2", "9"], r"\boxed{3}", False, False),
        ([2, 9], r"\boxed{9}", False, True),
        ([2, 9], r"\boxed{2, 9}", True, False),
        (["18"], r"\boxed{18}", True, True),
        ([18], r"\boxed{18}", True, True),
        ([18], r"\boxed{19}", False, False),
        ([["2", "9"], ["11"]], r"\boxed{2, 9}", False, True),
        ([["2", "9"], ["11"]], r"\boxed{11}", False, True),
        ([["2", "9"], ["11"]], r"\boxed{2}", False, False),
        ([["2", "9"], ["11"]], r"\boxed{2, 9, 11}", True, False),
        ([r"\frac12", "50"], r"\boxed{0.5}", False, True),
        (["(1, 2)", "(3, 4)"], r"\boxed{(3, 4)}", False, True),
        (["B", "12"], "The answer is 12.", False, True),
        (["B", "12"], "B) 12 apples", False, True),
        (["B", "12"], "It is 12 apples.", False, True),  # no letter, yet right by the other alternative
        (["Yes", "Possibly"], "The answer is possibly.", False, True),
    ],
)
def test_all_wants_every_entry_and_any_one_of_them(gold, response, by_all, by_any):
    assert grade(response, gold, answer_format="math").correct is by_all
    assert grade(response, gold, answer_format="math", answers="all").correct is by_all
    assert grade(response, gold, answer_format="math", answers="any").correct is by_any
    contract = preset("math", think_prefix="", think_close=None, answers="any")
    assert grade(response, gold, contract=contract).correct is by_any
    assert grade(response, read_gold(gold, "math", answers="any"), contract=contract).correct is by_any


def test_any_in_formats_of_their_own_and_with_a_pattern():
    assert grade("#### 9", ["2", 9], answer_format="gsm8k", answers="any")
    assert grade("A: b", ["a", "b"], answer_format="lab", answers="any")
    assert not grade("A: b", ["a", "b"], answer_format="lab")
    assert grade("A: a, b", ["a", "b"], answer_format="lab")
    assert grade("Result: 9", ["2", "9"], answer_format="math", answer_pattern="Result: (.+)", answers="any")


def test_the_verdict_on_a_wrong_answer_is_that_of_the_first_alternative():
    verdict = grade("The answer is 3.", ["2", "9"], answer_format="math", answers="any")
    assert (verdict.correct, verdict.extracted, verdict.how) == (False, "3", "phrase")


def test_an_unknown_word_is_refused():
    for call in (lambda: grade("2", ["2"], answers="either"), lambda: preset("math", answers="either")):
        with pytest.raises(ConfigError, match="unknown answers 'either'; choose one of all, any"):
            call()


# ---- one contract everywhere --------------------------------------------------------------------------------

ANY = preset("gsm8k", think_prefix="", think_close=None, chat_template=False, answers="any")
OWN = "def exact(response, answer):\n    return response == answer\n"


def test_the_contract_carries_it_through_records_and_adapters():
    assert ANY.to_dict()["answers"] == "any"
    assert PromptContract.from_dict(json.loads(json.dumps(ANY.to_dict()))) == ANY
    plain = preset("gsm8k", think_prefix="", think_close=None, chat_template=False)
    assert plain.to_dict()["answers"] == "all"
    assert plain.fingerprint() != ANY.fingerprint()
    older = {name: value for name, value in plain.to_dict().items() if name != "answers"}
    assert PromptContract.from_dict(older).fingerprint() == plain.fingerprint()  # records from before the field


def test_problems_grade_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(word_tokenizer(tmp_path / "words"))
    rows = [{"question": "word", "answer": ["2", "9"]}, {"question": "word word", "answer": [7]}]
    contract = preset(
        "gsm8k", think_prefix="", think_close=None, chat_template=False, answers="any", template="{problem}"
    )
    made = prepare(rows, contract, tokenizer, cap=1, positions=None, source="rows")
    assert made.answers == ['["2", "9"]', "7"]
    assert made.answers[0] == gold_answer(contract, rows[0])
    assert [bool(made.grader(text, made.answers[0])) for text in ("#### 2", "#### 9", "#### 3")] == [True, True, False]
    made.grader.close()  # type: ignore[attr-defined]
    own = prepare(
        rows, contract, tokenizer, cap=1, positions=None, source="rows", grader=lambda text, answer: text == answer
    )
    assert [own.grader(text, own.answers[0]) for text in ("2", "9", "3")] == [True, True, False]


def test_own_graders_get_one_alternative_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_alternatives_for_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    own = load_grader("own_alternatives_for_test:exact")
    gold = read_gold(["a", "b"], "math", answers="any")
    assert [own(text, gold).correct for text in ("a", "b", "c")] == [True, True, False]
    assert own("a, b", read_gold(["a", "b"], "math"))


def test_worker_processes_grade_by_it():
    with_any = SafeGrader(ANY, seconds=30)
    try:
        assert with_any("#### 9", ["2", "9"])
        assert with_any("#### 9", gold_answer(ANY, {"answer": ["2", "9"]}))
        assert not with_any("#### 3", ["2", "9"])
    finally:
        with_any.close()


def test_the_right_answer_stands_where_an_alternative_does():
    body = Body("First 9 * 1 = 9.\nThen 3. The answer is 2.", ["2", "9"])
    found = dissect(body, ANY, None, None)
    assert (found.verdict.correct, found.right_stated, found.gold, found.vote) == (True, True, "2 | 9", "2 | 9")
    lost = dissect(Body("So = 9.\nThe answer is 3.", ["2", "9"]), ANY, None, None)
    assert (lost.verdict.correct, lost.right_stated, lost.vote) == (False, True, "3")


# ---- the command line ---------------------------------------------------------------------------------------


def test_grade_takes_it_and_writes_it_into_the_record(tmp_path: Path):
    rows = [
        {"response": f"The answer is ${said}$.", "answer": ["2", "9"], "num_tokens": 5}
        for said in ("2", "9", "2, 9", "3")
    ]
    log = write_log(tmp_path / "log.jsonl", rows)
    shown = {}
    for answers in ("all", "any"):
        record = tmp_path / f"{answers}.json"
        done = CliRunner().invoke(
            app, ["grade", str(log), "--json", "--workers", "1", "--several", answers, "--record", str(record)]
        )
        assert done.exit_code == 0, done.output
        shown[answers] = json.loads(done.stdout)["accuracy"]
        assert json.loads(record.read_text())["context"]["contract"]["answers"] == answers
    assert shown == {"all": 0.25, "any": 0.5}
    refused = CliRunner().invoke(app, ["compare-records", str(tmp_path / "all.json"), str(tmp_path / "any.json")])
    assert isinstance(refused.exception, InputError)


@pytest.mark.parametrize("command", ["grade", "evaluate", "shorten", "compare", "repair"])
def test_every_command_that_takes_references_says_what_a_list_is(command):
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "400"})
    assert "--several" in done.output
    assert "all, parts of one answer, or any, alternatives" in done.output


def test_another_word_is_one_line(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", [{"response": "2", "answer": ["2"], "num_tokens": 1}])
    done = CliRunner().invoke(app, ["grade", str(log), "--several", "either"])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == "several is 'either'; choose all or any"
