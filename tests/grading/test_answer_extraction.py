"""Stated answers: where a text says what the answer is, and when two answers are surely equal."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from lengthwise.errors import ConfigError
from lengthwise.grading.answer_extraction.answer_text import answer_key
from lengthwise.grading.answer_extraction.stated_answers import stated_answers


def found(text: str, form: str = "gsm8k", pattern: str | None = None) -> list[tuple[str, str]]:
    return [(stated.text, stated.how) for stated in stated_answers(text, form, pattern)]


# ---- stated answers -----------------------------------------------------------------------------------------

SOLUTION = """<think>She eats 16 - 3 - 4 = 9 duck eggs a day.
9 * 2 = 20. Wait, 9 * 2 = 18. So the answer is 18.
Let me check: 2 + 2 = 4, which is fine.</think>
**Step 1:** 16 - 7 = <<16-7=9>>9 eggs, **9 eggs**.
#### Result
The answer is $18$, so \\boxed{18}.
#### 18"""


def test_every_statement_of_a_response_in_order():
    assert found(SOLUTION) == [
        ("9", "equation"),  # ends a line; the number of "9 duck eggs a day"
        ("20", "equation"),
        ("18", "equation"),
        ("18", "phrase"),
        ("9", "equation"),  # a calculator's; "2 + 2 = 4, which" ends nothing
        ("9", "bold"),
        ("18", "phrase"),
        ("18", "boxed"),
        ("18", "after ####"),
    ]


def test_spans_are_where_the_statements_stand():
    statements = stated_answers(SOLUTION, "gsm8k")
    shown = [SOLUTION[stated.start : stated.end] for stated in statements]
    assert shown[3:4] == ["answer is 18"]
    assert shown[-3:] == ["answer is $18$", r"\boxed{18}", "#### 18"]
    assert all(before.end <= after.start for before, after in pairwise(statements))


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("math", r"The answer is $\boxed{18}$.", [("18", "boxed")]),  # the box, not the phrase around it
        ("math", r"The answer is **18**.", [("18", "phrase")]),
        ("math", r"#### \boxed{18}", [("18", "boxed")]),
        ("math", r"\[ x = \boxed{18} \]", [("18", "boxed")]),
        ("math", r"so $x = \frac{3}{4}$.", [(r"\frac{3}{4}", "equation")]),
        ("math", "\\[\nx = 18\n\\]", [("18", "equation")]),
        ("math", r"so \( x = 18 \).", [("18", "equation")]),
        ("math", "x = 18, and y >= 3.", []),
        ("math", "The answer is 18 eggs for 9 people.", [("18", "phrase")]),
        ("math", "The answer is 3 + 4 = 7.", [("7", "phrase")]),
        ("math", "The answer is not clear to me at all.", []),
        ("math", "What is the answer: let me think.", []),
        ("math", "The answer is positive.", [("positive", "phrase")]),
        ("math", "The answer is 2 or 3.", [("2 or 3", "phrase")]),
        ("math", "A: (B)\nB: no", [("(B)", "after A:")]),
        ("gsm8k", "The answer is clear.", []),  # no number in it
        ("gsm8k", "The answer is about 18 dollars.", [("18", "phrase")]),
        ("gsm8k", "**Total: 18** and **done**", []),
        ("gsm8k", "She has $2,125.00 = $2125.", [("2125", "equation")]),
        ("auto", "no numbers", []),
        ("auto", "", []),
        ("lab", "7+5=12;12-3=9;check:7+5=12;12-3=9;A:9", [("9", "equation"), ("9", "equation"), ("9", "after A:")]),
        ("lab", "7+5=13;13-3=10;check:7+5=12;12-3=9;check:7+5=12;12-3=9;A:9",
         [("10", "equation"), ("9", "equation"), ("9", "equation"), ("9", "after A:")]),
        ("lab", "7 + 5 = 12 ; check: 7 + 5 = 12 ; A: 12", [("12", "equation"), ("12", "equation"), ("12", "after A:")]),
        ("lab", "7+5=12;12-3=9", []),  # a pass that was cut
        ("lab", r"\boxed{9} A:", []),
    ],
)  # fmt: skip
def test_what_states_an_answer(form, text, expected):
    assert found(text, form) == expected


def test_a_pattern_adds_its_matches_and_goes_before_all():
    text = r"Result: 17; so Result: \boxed{18}; A: 18"
    assert found(text, "math", r"Result: ([^;]+)") == [
        ("17", "answer pattern"),
        (r"\boxed{18}", "answer pattern"),
        ("18", "after A:"),
    ]


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="unknown answer_format 'mth'; did you mean math"):
        stated_answers("18", "mth")
    with pytest.raises(ConfigError, match="it needs exactly one"):
        stated_answers("18", "math", "no group")


@pytest.mark.parametrize(
    "unit",
    ["(", r"\boxed{", r"\boxed{1}", "#### 1\n", "the answer is 1. ", "answer to ", "**1** ", "$", r"\[", "\\", "1",
     "= 1.\n", "=", "A:1\n", "=1;check:", "\0", "\ud800", " ", "She has 3 + 4 = 7 eggs.\n"],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("form", ["auto", "lab"])
def test_time_grows_linearly_whatever_the_text_holds(unit, form):
    # quadratic work on 200,000 characters would take minutes; the bound leaves room for a slow machine that is busy
    start = time.process_time()
    stated_answers(unit * (200_000 // len(unit)), form)
    assert time.process_time() - start < 8


# ---- keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "texts"),
    [
        ("18", ["18", " 18. ", "18.00", "$18", r"\$18", r"$18$", "18 dollars", r"18\text{ eggs}",
                "18 eggs for 9 people", "x = 18", "9 + 9 = 18", r"9 \times 2 = 18", "18%", r"18\%",
                "f(x) = 18", "18, as asked"]),
        ("2125", ["2,125", r"2,\!125", "2{,}125"]),
        ("-5", ["-5", "− 5", "x=-5"]),
        ("3/4", ["3/4", "0.75", r"\frac{3}{4}", r"\dfrac34", r"\frac 34", r"\frac{6}{8}"]),
        ("-3/4", [r"-\frac34", r"\frac{-3}{4}", "-.75"]),
        ("9/5", [r"1\frac{4}{5}", "1.8"]),
        ("90", [r"90^\circ", r"90^{\circ}", "90°"]),
        ("x+1", ["x+1", "x + 1", r"\left x + 1\right", "y = x+1", "X+1"]),
        (r"(1,\frac{\pi}{2})", [r"\left( 1, \dfrac{\pi}{2} \right)", r"(1,\frac{\pi}{2})"]),
        ("evelyn", [r"\text{Evelyn}", "Evelyn", " evelyn."]),
        ("2or3", ["2 or 3"]),
        ("1,2,3", ["n = 1,2,3", "1, 2, 3"]),
        ("5x-7y=0", ["5x - 7y = 0"]),  # no single name on the left: the equation is the answer
        ("", ["", "  ", "$"]),
    ],
)  # fmt: skip
def test_equal_answers_have_one_key(key, texts):
    assert {text: answer_key(text) for text in texts} == dict.fromkeys(texts, key)


def test_unlike_answers_have_unlike_keys():
    texts = ["18", "-18", "1.8", "18x", "x", "x+1", "x-1", "(1,2)", "(2,1)", "[1,2]", "18_5", "18^2", "1/18",
             r"\sqrt{18}", "2 cos", "2 and 3", "12:30", "1 2", "n=1,2", "n=1,3", "1" * 2000, "9" * 2000]  # fmt: skip
    assert len({answer_key(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("unit", ["1", "(", "=", "x=", "\\", r"\text{", " ", "1,", r"\frac", "a ", "\ud800"], ids=repr)
def test_keys_of_long_texts_take_no_time(unit):
    start = time.process_time()
    answer_key(unit * 200_000)
    assert time.process_time() - start < 8
