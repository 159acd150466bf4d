"""Text of answers: typographic forms are read as the plain ones that they stand for."""

from __future__ import annotations

import time

import pytest

from lengthwise.grading.answer_extraction.answer_text import answer_key, as_number, folded, plain
from lengthwise.grading.answer_extraction.final_answer import extract_answer
from lengthwise.grading.answer_extraction.stated_answers import stated_answers
from lengthwise.grading.graders import grade
from lengthwise.grading.prompt_contract import read_gold

ASCII = "0123456789+-.,:;%()[]{}=/^_<>$#*ABCxyz"
FULL_WIDTH = "".join(chr(ord(sign) + 0xFEE0) for sign in ASCII)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FULL_WIDTH, ASCII),
        ("٠١٢٣٤٥٦٧٨٩", "0123456789"),  # every script's digits
        ("०१२३𝟎𝟏", "012301"),
        ("−5 –5 ‐5 ‑5 ﹣5 －5", "-5 -5 -5 -5 -5 -5"),
        ("a\u00a0b\u2003c\u3000d\u202fe", "a b c d e"),
        ("1\u00a0234\u202f567,5", "1,234,567,5"),  # spaces that group digits
        ("1\u00a02345", "1 2345"),
        ("\ufeff1\u200b8", " 1 8"),
        ("50％、５０٪。", "50%,50%."),
        ("“18” ‘18’", "\"18\" '18'"),
        ("x² ½ π ①", "x² ½ π ①"),  # not digits of the same worth
        ("東京", "東京"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_typographic_forms_fold_to_ascii_in_their_place(text, expected):
    assert folded(text) == expected
    assert len(folded(text)) == len(text)
    assert folded(folded(text)) == folded(text)


FORMS = [
    ("18", "１８"), ("18", "١٨"), ("18", "𝟏𝟖"), ("18", "18\u00a0"), ("18", "\u200b18\ufeff"), ("1800", "１，８００"),
    ("1800", "1\u202f800"), ("18.5", "１８．５"), ("-5", "－５"), ("-5", "−5"), ("-5", "–5"), ("3/4", "３／４"),
    ("3/4", "3⁄4"), ("50%", "５０％"),
]  # fmt: skip
SAID = [
    "\\boxed{%s}",
    "#### %s",
    "The answer is %s.",
    "The answer is %s。",
    "Answer： %s",
    "**%s**",
    "A: %s",
    "So we get %s.",
]


@pytest.mark.parametrize(("gold", "written"), FORMS)
@pytest.mark.parametrize("said", SAID)
def test_answers_in_typographic_forms_are_right_whoever_wrote_them(gold, written, said):
    for form in ("math", "auto", "gsm8k"):
        if not (form == "gsm8k" and gold == "50%"):  # that wants a plain number
            assert grade(said % written, gold, answer_format=form)
            assert grade(said % gold, written, answer_format=form)
            assert not grade(said % "7", written, answer_format=form)


def test_brackets_and_letters_too():
    assert grade("\\boxed{（１，２）}", "(1,2)", answer_format="math")
    assert grade("Ａｎｓｗｅｒ： （Ｂ）", "(B)", answer_format="math")
    assert grade("The\u00a0answer\u00a0is\u00a0$x\u2009+\u20091$.", "1+x", answer_format="math")


def test_numbers_keys_and_references_fold():
    assert as_number("－１，８００．５") == as_number("-1,800.5")
    assert answer_key("ｘ＝１８％") == answer_key("x=18%") == "18"
    assert plain("（ｘ＋１）") == "(x+1)"
    assert read_gold("#### １，８００", "gsm8k") == "1800"


def test_places_are_those_of_the_text_as_it_is():
    text = "因此 ＝ １８。\nThe answer is　１８。 So １９."
    assert [text[at.start : at.end] for at in stated_answers(text, "math")] == ["＝ １８", "answer is　１８"]


def test_the_lab_and_patterns_of_ones_own_read_the_text_as_it_is():
    assert extract_answer("A: １８", "lab") == ("１８", "after A:")
    assert not grade("A: １８", "18", answer_format="lab")
    assert extract_answer("答案：１８", "math", answer_pattern="答案：(.+)") == ("１８", "answer pattern")
    assert grade("答案：１８", "18", answer_format="math", answer_pattern="答案：(.+)")


@pytest.mark.parametrize("unit", ["１", "１\u00a0", "\u200b", "中文，", "１，"])
def test_folding_takes_time_linear_in_the_text(unit):
    start = time.process_time()
    folded(unit * (500_000 // len(unit)))
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (r"$\frac{2}{7} $", r"\frac{2}{7}"),
        (r"$ \frac{2}{7}$", r"\frac{2}{7}"),
        (r"The answer is $\frac{2}{7} $.", r"\frac{2}{7}"),
        ("After 3 steps $x+1 $ is left", "x+1"),
        ("After 3 steps $ x+1 $ is left", "x+1"),
        ("$ 5 $", "5"),
        ("She has $5 and 6 in $ or so, 7 in all", "7"),  # prices are no formulas
        ("It costs $18 and she has 20 in $ or in $", "20"),
        ("from $3 to $ 5 a day, for 2", "2"),
    ],
)
def test_a_blank_inside_a_dollar_does_not_hide_the_formula(text, read):
    found = extract_answer(text, "math")
    assert found is not None and found[0] == read
