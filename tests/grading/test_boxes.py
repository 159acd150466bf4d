r"""Boxes: which of them make one answer, and that what is empty or never closes is none."""

from __future__ import annotations

import time

import pytest

from lengthwise.grading.answer_extraction.boxes import boxes, final_box
from lengthwise.grading.answer_extraction.final_answer import extract_answer
from lengthwise.grading.answer_extraction.stated_answers import stated_answers
from lengthwise.grading.graders import grade
from lengthwise.grading.prompt_contract import read_gold


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {3}", "3"),
        (r"\framebox{5}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{1 \boxed{2}", "2"),  # the outer box never ends, and begins before
        (r"\boxed{a \boxed{2} b} {", "2"),  # boxes hold no boxes: the inner one is it
        (r"} \boxed{\{1\}} }", r"\{1\}"),
        (r"\\boxed{5}", "5"),  # escaped once too often, as in logs
        ("\boxed{5}", "5"),  # and once too rarely: a backspace
        ("\fbox{5}", "5"),
        (r"It is boxed{5}.", "5"),
        (r"\boxed{1} \boxed{2", ""),  # never closed
        (r"\boxed{1} \boxed{}", ""),
        (r"\boxed{1} \boxed{ \, }", ""),
        (r"\boxed{1} \boxed{...}", ""),
        (r"\boxed{" * 200_000, ""),  # quadratic work would take minutes
        (r"\boxed{" * 200_000 + "}" * 200_000, ""),
        (r"\boxed{", ""),
        ("none", None),
        ("a text box", None),
    ],
)
def test_what_the_last_box_holds(text, expected):
    assert final_box(text) == expected


LISTS = [
    r"\boxed{2} \text{ and } \boxed{9}",
    r"$\boxed{2}$ and $\boxed{9}$.",
    r"So $x = \boxed{2}$ or $x = \boxed{9}$.",
    r"x = \boxed{2}, y = \boxed{9}",
    r"\boxed{2}, \boxed{9}",
    r"\boxed{2}; \boxed{9}",
    r"\(\boxed{2}\), and \(\boxed{9}\)",
    r"\[\boxed{2} \quad\text{and}\quad \boxed{9}\]",
    "\\[\\boxed{2}\\]\nand\n\\[\\boxed{9}\\]",
    "\\begin{align*} x &= \\boxed{2} \\\\\n y &= \\boxed{9} \\end{align*}",
    r"There are \boxed{2} cats and \boxed{9} dogs.",
    r"**\boxed{2}** and **\boxed{9}**",
    r"First \boxed{5}. Then \boxed{2} and \boxed{9}, which are all.",
    r"\boxed{2}, \boxed{2} and \boxed{9}",  # equal ones count once
    r"Its roots are \boxed{2} and, as 3 - 7 < 0, nothing else. They are \boxed{2} and \boxed{9}",
]


@pytest.mark.parametrize("text", LISTS)
def test_boxes_of_one_sentence_are_one_list(text):
    assert extract_answer(text, "math") == extract_answer(text, "auto") == ("2, 9", "boxed")
    assert grade(text, "2, 9", answer_format="math")
    assert not grade(text, "9", answer_format="math")
    assert [stated.text for stated in stated_answers(text, "math")][-1] == "2, 9"
    assert extract_answer(text, "gsm8k") == ("9", "boxed")  # an answer that is one number is no list


@pytest.mark.parametrize(
    "text",
    [
        r"It is \boxed{2}. In fact \boxed{9}.",
        r"It is \boxed{2}! So \boxed{9}.",
        r"$\boxed{2}.$ Also $\boxed{9}$",
        "\\boxed{2}\n\\boxed{9}",
        "Step 1: \\boxed{2}\nStep 2: \\boxed{9}",
        r"\boxed{2} = \boxed{9}",
        r"$\boxed{2}$ $\approx \boxed{9}$",
        r"\boxed{2} \Rightarrow \boxed{9}",
        "\\begin{align*} x &= \\boxed{2} \\\\\n &= \\boxed{9} \\end{align*}",
        r"not \boxed{2} but \boxed{9}",
        r"\boxed{2}, no, \boxed{9}",
        r"\boxed{2}, so the answer is \boxed{9}",
        r"\boxed{2}, which simplifies to \boxed{9}",
        rf"\boxed{{2}} and {'very ' * 50} late \boxed{{9}}",
    ],
)
def test_a_later_box_replaces_one_that_it_corrects(text):
    assert extract_answer(text, "math") == ("9", "boxed")


def test_equal_boxes_are_one_as_the_last_is_written():
    assert final_box(r"$\boxed{15\frac{39}{40}}$, or $\boxed{\frac{639}{40}}$ inches") == r"\frac{639}{40}"


@pytest.mark.parametrize(
    "ending", [r"\boxed{", r"\boxed{}", r"\boxed{ }", r"\boxed{\frac{9}{", r"$\boxed{9$.", r"\fbox{"]
)
@pytest.mark.parametrize("form", ["math", "auto", "gsm8k", "aime"])
def test_a_last_box_without_content_is_no_answer_and_nothing_before_it_comes_back(form, ending):
    for before in (r"It is \boxed{7}. So ", r"\boxed{7} and ", "The answer is 7. So ", "**7** ", "7 "):
        assert extract_answer(before + ending, form) is None
        assert extract_answer(before + ending, form, marked_only=True) is None


def test_what_follows_an_empty_box_is_read():
    said = r"I put \boxed{7} and then the final answer in \boxed{}. The answer is 9."
    assert extract_answer(said, "math") == ("9", "phrase")


def test_references_are_read_by_the_same_rules():
    assert read_gold(r"They are $\boxed{2}$ and $\boxed{9}$.", "math") == "2, 9"
    assert read_gold(r"It is \boxed{2}. No: \boxed{9}", "math") == "9"
    assert read_gold(r"\boxed{1} and then \boxed{\{2\}}", "math") == r"\{2\}"


@pytest.mark.parametrize(
    "unit", [r"\boxed{1}", r"\boxed{1}, ", r"\boxed{1} and ", r"\boxed{1} \\ ", r"\boxed{1} = ", "boxed{"]
)
def test_time_grows_linearly_whatever_the_boxes_hold(unit):
    start = time.process_time()
    assert len(list(boxes(unit * (200_000 // len(unit))))) > 0
    final_box(unit * (200_000 // len(unit)))
    assert time.process_time() - start < 2
