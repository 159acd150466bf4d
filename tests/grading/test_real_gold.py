"""Real data, end to end: reference answers, given back in the phrasings that models use, grade as right.

Rows load through the presets; nothing of the data is in the repository. Skipped where the files are not.
"""

from __future__ import annotations

import os
import re
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from gold_mutations import MUTATIONS

from lengthwise.data import read_rows
from lengthwise.grading.answer_extraction.boxes import boxes
from lengthwise.grading.graders import grade
from lengthwise.grading.prompt_contract import PromptContract, gold_answer, preset

SHARED = Path(os.environ.get("LENGTHWISE_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no real data here; set LENGTHWISE_DATA")

SETS = {
    "gsm8k": ("gsm8k", "gsm8k/test.jsonl", 1319),
    "gsm8k train": ("gsm8k", "gsm8k/train.jsonl", 2000),  # its first rows
    "math500": ("math", "math500/test.jsonl", 500),
    "aime24": ("aime", "aime24/aime.json", 30),
}
THINKING = "First 12 and then 7, so perhaps \\boxed{3}, or the answer is 5.</think>"
PHRASINGS = {
    "boxed": THINKING + "With 12 and 7 the final answer is $\\boxed{%s}$.",
    "hashes": "We count 12 and then 7 of them.\n#### %s",
    "A:": THINKING + "We count 12 and then 7 of them.\n\nA: %s",
    "answer is": THINKING + "We count 12 steps. The answer is %s.",
    "answer is, formula": "We count 12 steps. The final answer is $%s$. I hope it is correct.",
    "Answer:": "We count 12 steps.\n\n**Answer:** %s\n",
    "bold": "We count 12 steps, so it is **%s**.",
    "bold formula": THINKING + "We count 12 steps, so it is **$%s$**. Done!",
    "formula": THINKING + "Let us see: after 12 steps it comes to $%s$, which solves the problem!",
    "last words": "Let us see: after 12 steps we are left with %s.",
    "last line": THINKING + "### Final result (after 12 steps)\n\n%s",
}
# (reference, other row's answer) that grade as right, and why. The last three come from a larger draw: 20 others
# for each row of MATH-500, 9903 pairs, of which no other was accepted.
REALLY_EQUAL = {
    ("5", "x=5"): "the value of x",
    ("\\frac14", "\\frac{1}{4}"): "equal",
    ("15", "15\\mbox{ cm}^2"): "a unit on one side only is let pass",
    ("36", "36^\\circ"): "a unit on one side only is let pass",
}


@cache
def rows(name: str) -> list[tuple[str, Any]]:
    """Each row's reference answer as text, and as it stands in the file."""
    preset_name, file, count = SETS[name]
    contract = preset(preset_name)
    found = read_rows(SHARED / file, columns=[contract.problem_column, contract.answer_column])
    assert len(found) >= count
    return [(gold_answer(contract, row), row[contract.answer_column]) for row in islice(found, count)]


def contract_for(name: str, response: str) -> PromptContract:
    thinks = {} if "</think>" in response else {"think_prefix": "", "think_close": None}
    return preset(SETS[name][0], **thinks)


@pytest.mark.parametrize("phrasing", PHRASINGS)
@pytest.mark.parametrize("name", SETS)
def test_reference_answers_given_back_are_right(name, phrasing):
    contract = contract_for(name, PHRASINGS[phrasing])
    wrong = [
        (gold, verdict)
        for gold, answer in rows(name)
        if not (verdict := grade(PHRASINGS[phrasing] % gold, answer, contract=contract))
    ]
    assert len(wrong) <= 0.005 * len(rows(name)), wrong
    assert wrong == []  # today every one is right; loosen with a reason


# Mutated references that grade as right, and why: every one of the 0.2 % that do.
STILL_RIGHT = {("0", "-0"): "minus zero is zero"}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_references_with_one_small_change_are_wrong(mutation):
    asked, accepted = 0, []
    for name in ("gsm8k", "math500", "aime24"):
        contract = contract_for(name, "</think>")
        for gold, answer in rows(name):
            changed = MUTATIONS[mutation](gold)
            if changed is not None and changed != gold:
                asked += 1
                if grade(f"</think>The answer is $\\boxed{{{changed}}}$.", answer, contract=contract):
                    accepted.append((gold, changed))
    assert asked >= 20
    assert len(accepted) <= 0.004 * asked, accepted  # 7 of 1,849 signs, 0.2 % of all changes
    assert set(accepted) <= set(STILL_RIGHT), accepted


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_answers_of_other_rows_are_wrong(name):
    contract = contract_for(name, "</think>")
    golds = [gold for gold, _ in rows(name)]
    asked, accepted = 0, []
    for shift in (1, 7):
        for place, (gold, answer) in enumerate(rows(name)):
            other = golds[(place + shift) % len(golds)]
            if other != gold:
                asked += 1
                if grade(f"</think>The answer is $\\boxed{{{other}}}$.", answer, contract=contract):
                    accepted.append((gold, other))
    assert len(accepted) <= 0.005 * asked, accepted
    assert set(accepted) <= set(REALLY_EQUAL), accepted


@pytest.mark.parametrize("name", ["gsm8k", "gsm8k train"])
def test_worked_solutions_of_gsm8k_are_right(name):
    contract = contract_for(name, "")
    assert [gold for gold, answer in rows(name) if not grade(answer, gold, contract=contract)] == []


def test_worked_solutions_of_math500_are_right():
    # they end in a box, or in two of them; the reference is always the last
    contract = contract_for("math500", "")
    found = read_rows(SHARED / "math500/test.jsonl", columns=["problem", "answer"])
    wrong = [row["answer"] for row in found if not grade(row["solution"], row["answer"], contract=contract)]
    assert wrong == []


def test_worked_solutions_without_their_marks_are_mostly_right():
    # 1301 of 1319 and 463 of 500 today; 1282 and 394 when only the very last formula or number was read
    gsm8k = [(re.sub(r"<<[^<>]*>>", "", answer.rsplit("####", 1)[0]), gold) for gold, answer in rows("gsm8k")]
    assert sum(grade(text, gold, answer_format="gsm8k").correct for text, gold in gsm8k) >= 1298
    math = read_rows(SHARED / "math500/test.jsonl", columns=["problem", "answer"])
    assert sum(grade(unboxed(row["solution"]), row["answer"], answer_format="math").correct for row in math) >= 460


def unboxed(text: str) -> str:
    for start, end, content in reversed(list(boxes(text))):
        text = text[:start] + content + text[end:]
    return text


def test_aime_answers_are_whole_numbers_up_to_999():
    assert all(gold == str(int(gold)) and 0 <= int(gold) <= 999 for gold, _ in rows("aime24"))
