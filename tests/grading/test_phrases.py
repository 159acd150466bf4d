"""Phrases: what models write around an answer, what follows it, and what is not the answer."""

from __future__ import annotations

import time

import pytest

from lengthwise.grading.answer_extraction.answer_text import chosen, lone_choice
from lengthwise.grading.answer_extraction.final_answer import extract_answer
from lengthwise.grading.answer_extraction.stated_answers import stated_answers
from lengthwise.grading.graders import grade, same_answer

# ---- the answer is ------------------------------------------------------------------------------------------

SAYS_18 = [
    "The answer (in dollars) is 18, of 20.",
    "the answer (arabic numerals) is 18",
    "The answer (rounded to the nearest dollar, as asked) is 18, not 20.",
    "The answer, in dollars, is 18.",
    "The answer to question 2 (in dollars) is 18.",
    "The answer I get is 18 for 2.",
    "The answer that we seek is 18 of 20",
    "The answer would be 18 for 2 people.",
    "The answer should be 18, for 2",
    "The answer must be 18, for 2",
    "The answer equals 18, or 2*9",
    "The answer comes to 18 for 2",
    "The answer turns out to be 18 for 2",
    "The answer is therefore 18 for 2.",
    "Therefore the answer is thus $18, for 2",
    "The answer is approximately 18 for 2",
    "The answer is that she has 18 dollars, not 20",
    "The answer is 18! (2 steps)",
    "The answer is 18 because 2 * 9 = 18 and 3 > 2.",
    "Final answer: 18 (of 20)",
    "final_answer = 18",
    "The final result is 18, in 2 steps",
    "Result: 18 in 2 steps",
    "**Result:** 18 in 2 steps",
    "**Final Answer**\n\n18 eggs of 20",
    "## Final Answer\n\n18 eggs in 2 boxes",
    "## Answer\n18\n\nThis took 2 steps.",
    "**Answer: 18** of 20",
    "**Answer:** 18 of 20",
    "*Answer*: 18 of 20",
    "_Answer:_ 18 of 20",
    "__Answer__: 18 of 20",
    "### Answer: 18 of 20\nDone in 3.",
    "Answer:\n\n18\n\nDone in 3.",
    "The answer is:\n- 18 eggs in 2",
    'The answer is "18" of 20',
    "The answer is `18` of 20",
    '{"answer": 18, "steps": 2}',
    '{"answer": "18", "steps": 2}',
    "<answer>18</answer> in 2 steps",
    "<answer>\n18 eggs\n</answer> in 2 steps",
    "18 is the answer to question 2.",
    "So $18$ is our final answer, by step 2.",
    "**18** is therefore the correct answer (of 20).",
    "答案是18。因为20。",
    "答案：18，共20。",
    "答えは18です。",
    "정답: 18개 (20)",
    "La respuesta es 18, de 20.",
    "La réponse est 18 sur 20",
    "Die Antwort ist 18 von 20",
    "Ответ: 18 из 20",
]


@pytest.mark.parametrize("text", SAYS_18)
def test_phrases_that_give_an_answer(text):
    found = extract_answer(text, "gsm8k")
    assert found is not None and found[1] in ("phrase", "answer tag")
    assert same_answer(found[0], "18", "gsm8k")
    assert not same_answer(found[0], "19", "gsm8k")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("The answer is: $$18$$ of 20", "18"),
        ("The answer is:\n\n$$\n18\n$$\nof 20", "18"),
        ("The final answer is:\n\\[\n\\frac{1}{2}\n\\]\nby 3", r"\frac{1}{2}"),
        ("The answer is $18$ dollars, since $9 \\cdot 2 = 18$.", "18"),
        ("The answers are $2$ and $9$.", "2, 9"),
        ("The answers are $2$, $5$, and $9$.", "2, 5, 9"),
        ("The answer is $x = 2$ or $x = 9$.", "x = 2, x = 9"),
        ("The answer is $x < 2$, $x \\in (-\\infty, 2)$.", "x < 2"),  # two ways to write one answer
        ("The answer is $\\frac12$, or $0.5$.", "0.5"),  # equal ones count once
        ("The answer is that the largest $k$ is 51.", "51"),
        ("Therefore the answer: the largest $k$ is 51.", "51"),
        ("The answer is the value $18$ of $x$.", "18"),
        ("The answer is $k$ for 3 of them.", "k"),
        ("Answer: Yes, because 3 > 2.", "Yes"),
        ("The answer is **yes** for 3.", "yes"),
        ("Answer: 6 kg, 9 kg", "6 kg, 9 kg"),
        ("Answer: 12 miles per hour", "12 miles per hour"),
        ("Answer: (1, 2)", "(1, 2)"),
        ("Answer: 5!", "5"),
    ],
)
def test_what_a_phrase_gives(text, read):
    assert extract_answer(text, "math") == (read, "phrase")


@pytest.mark.parametrize(
    "text",
    [
        "I hope this answer is helpful. So 18",
        "The answer is not obvious, but it equals 18",
        "The answer isn't 17; it is 18",
        "The answer is clear from what was said before. It is 18",
        "What is the answer: let me think. It is 18.",
        "The answer is as follows. She has 18.",
    ],
)
def test_what_only_talks_about_an_answer_gives_none(text):
    for form in ("math", "gsm8k"):
        assert extract_answer(text, form) in (("18", "last number"), ("18", "phrase"))


# ---- what follows, what goes before -------------------------------------------------------------------------

NEXT_QUESTIONS = [
    " … Q: There are 12 trees. How many are left?",
    "\n\nQ: There are 12 apples and 3 pears.\nA: There are 15. The answer is 15.",
    "\n\nQuestion: There are 12 apples and 3 pears.\nAnswer: 15",
    "\nQuestion 2: 12 apples?\n#### 12",
    "\n\n**Question:** 12 apples?\n**Answer:** 12",
    "\n\n### Problem 2:\nFind 12. \\boxed{12}",
    "\n\nNext question: 12?\nThe answer is 12.",
    "\n\nHuman: And 12?\n\nAssistant: The answer is 12.",
    "<|im_end|>\n<|im_start|>user\nWhat is 12?",
    "<|endoftext|>\n\nThe answer is 12.",
    "</s> [INST] And 12? [/INST] The answer is 12.",
]
GIVEN = ["The answer (in dollars) is 64.", "The answer is $64$.", "#### 64", "Thus \\boxed{64}.", "**Answer:** 64"]


@pytest.mark.parametrize("form", ["gsm8k", "auto", "math"])
@pytest.mark.parametrize("following", NEXT_QUESTIONS)
@pytest.mark.parametrize("given", GIVEN)
def test_a_new_question_ends_the_answer(given, following, form):
    assert grade(given + following, "64", answer_format=form)


def test_without_a_mark_only_a_new_turn_or_a_new_q_ends_the_answer():
    assert extract_answer(" 64\n\nQ: 12 apples?\nA: 15\n\nQ: and 9?", "gsm8k") == ("64", "last number")
    assert extract_answer("It is 64.<|im_end|>\n<|im_start|>user\nAnd 12?", "gsm8k") == ("64", "last number")


@pytest.mark.parametrize(
    "text",
    [
        "Question: How many of 12?\nAnswer: 18",
        "**Given:** 12 apples\n**Question:** how many fruits?\n**Answer:** 18",
        "Q: How many are left?\nA: 9 eggs\nQ: How much is it?\nA: 18 dollars\n#### 18",
        "<|im_start|>assistant\nThe answer is 18.",
        "We have 12 apples.\nQuestion: how many fruits?\nThe answer is 18.",
        "I put it in \\boxed{}.\n\nProblem: 12 apples.\nSo \\boxed{18}.",
    ],
)
def test_a_question_before_the_answer_ends_nothing(text):
    assert grade(text, "18", answer_format="gsm8k")


MARKED = [
    "The answer is %s.", "The answer (in all) is $%s$.", "Thus $\\boxed{%s}$.", "**%s**", "<answer>%s</answer>",
    "**Answer:** %s\n", "#### %s\n",
]  # fmt: skip
BEFORE = [
    "",
    "Let's see. ",
    "Step 1: 12 + 7 = 19, so 19.\n",
    "She has $5$ of $k$.\n\n",
    "Is the answer 3? No.\n",
    "**Step 1**\n\n",
]
AFTER = [
    "",
    "\n",
    " I hope this helps!",
    "\n\nLet me know if you have questions.",
    "\n\nThis took 3 steps.",
    "\nNote that $k > 3$.",
]


@pytest.mark.parametrize("form", ["math", "gsm8k"])
@pytest.mark.parametrize("marked", MARKED)
def test_prose_before_and_after_a_marked_answer_changes_nothing(marked, form):
    for answer in ("18", "-5", "3.5") if form == "gsm8k" else ("18", r"\frac{3}{4}", "x + 1", "(1, 2)"):
        for before in BEFORE:
            for after in AFTER:
                found = extract_answer(before + marked % answer + after, form)
                assert found is not None and same_answer(found[0], answer, form), (
                    before,
                    marked % answer,
                    after,
                    found,
                )


# ---- the last value -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("It's 42", "42"),
        ("It's 42.", "42"),
        ("So it's 18.", "18"),
        ("That's 18", "18"),
        ("That’s 18 dollars", "18"),
        ("Here's 18", "18"),
        ("We've 18", "18"),
        ("She'd have 18", "18"),
        ("It's \\frac{1}{2}", r"\frac{1}{2}"),
        ("It’s $\\frac{1}{2}$", r"\frac{1}{2}"),
        ("Let's say it's -5", "-5"),
        ("I get a 5", "5"),
        ("we get a \\frac{1}{2}", r"\frac{1}{2}"),
        ("and f'(x) = 3x", "f'(x) = 3x"),
        ("The largest $k$ is 51", "51"),
        ("So 51 is the largest $k$.", "51"),
        ("The largest $k$ such that $n > 3$ is 51, which is the value of $k$.", "51"),
        ("So $x = 5$, where $n > 3$.", "x = 5"),
        ("It is $12$ in $\\triangle ABC$.", "12"),
        ("It is $12$ for $f(x)$ and $a_n$.", "12"),
        ("After 5 steps we get $k$.", "k"),  # what the sentence says
        ("After 5 steps it comes to $E$, which solves it", "E"),
        ("So the area is $\\pi$.", r"\pi"),
        ("$k$", "k"),
        ("She makes $18 for 2 days.", "$18"),
        ("In total, that comes to 18 for 2.", "18"),
        ("So 9 * 2 = 18 eggs in 2 days.", "18"),
        ("There are $9$ divisors of 196.", "9"),
        ("6/3 = .5 hour which is 30 minutes.", "30"),
        ("So there are $2\\cdot 5!=2\\cdot120=240$ ways.", "240"),
        ("So $a = 1, b = 2, c = 3$.", "a = 1, b = 2, c = 3"),
        ("They are $2$ and $9$.", "2, 9"),
        ("We find $x = 2$ or $x = 9$.", "x = 2, x = 9"),
        ("We find $x = 2$, and $y^2 < 9$.", "y^2 < 9"),
        ("Then\n\\begin{align*}\nx &= 2 + 3 \\\\\n&= 5.\n\\end{align*}", "5"),
        ("Then\n\\[\\begin{aligned} x &= 2 + 3 \\\\ &= \\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix} \\end{aligned}\\]",
         r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        ("\\begin{align*} x &= 2 \\\\ &= \\begin{pmatrix} 1 & 2 \\end{pmatrix}.\\end{align*}",
         r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
        ("So it is $5$.\n\n[asy]\ndraw((0,0)--(7,8)); [/asy]", "5"),
        ("Saturday.", "Saturday"),
    ],
)  # fmt: skip
def test_the_last_value_of_a_text(text, read):
    found = extract_answer(text, "math")
    assert found is not None and found[0] == read


def test_the_last_value_of_a_number_is_never_a_list():
    assert extract_answer("They are $2$ and $9$.", "gsm8k") == ("9", "last formula")
    assert extract_answer("The answer is $2$, $9$ at most.", "gsm8k") == ("2", "phrase")


# ---- choices ------------------------------------------------------------------------------------------------

CHOOSE_B = [
    "The correct answer is option B.", "The correct answer is (B).", "The answer is B) 12 apples",
    "The answer is B. 12 apples", "B) 12 apples", "B. 12 apples",
    "(B)", "(B) 12 apples", "B: 12 apples", "B", "b", "**B**", "**B) 12**", "**(B)**",
    "So the correct option is B.", "Option B is correct.", "Option (B)", "The correct choice is **B**", "I choose B",
    "Answer: B", "Answer: (B) 12", "Answer: **B. 12 apples**", "A: (B)", r"\boxed{B}", r"\boxed{\text{(B)}}",
    r"\boxed{\textbf{(B) }12}", r"\boxed{\text{B) 12}}", r"\boxed{B. 12}", r"\boxed{(B)\ 12}", "#### B", "#### (B) 12",
    "A) 3\nB) 4\nC) 5\nThe answer is B.", "Therefore, the answer is: **Option B: 12**",
    r"The answer is $\textbf{(B)}$ 12", "the answer is choice B",
    "B) 12 apples\n\nBecause 3 * 4 = 12.", "We have 3 * 4 = 12.\n\nB) 12 apples",
    "3 * 4 = 12, so (B) holds, as 12 > 11.", "So we take option B, which is 12.", "B is the correct one, for 12.",
    "Ｂ）12", "The answer is (b).",
]  # fmt: skip


@pytest.mark.parametrize("gold", ["B", "(B)", r"\text{(B)}", r"\textbf{B}"])
@pytest.mark.parametrize("text", CHOOSE_B)
def test_choices_are_read_whatever_stands_beside_the_letter(text, gold):
    for form in ("math", "auto"):
        assert grade(text, gold, answer_format=form)
        assert not grade(text, gold.replace("B", "C"), answer_format=form)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("Yes", "Yes"), ("**Yes**, it is. Because 3.", r"\text{Yes}"), ("No, since 3 < 4.", r"\text{No}"),
        ("Answer: Yes, because 3 > 2.", "yes"), ("The answer is no.", "No"), (r"\boxed{\text{True}}", "true"),
        ("False. 3 > 2.", r"\text{False}"),
    ],
)  # fmt: skip
def test_yes_and_no_are_choices_too(text, gold):
    assert grade(text, gold, answer_format="math")
    other = {"yes": "no", "no": "yes", "true": "false", "false": "true"}[lone_choice(gold) or ""]
    assert not grade(text, other, answer_format="math")


def test_what_is_no_choice():
    assert [chosen(text) for text in ("Because", "12", "BC", "B^2", "A triangle", "No solution", "a, b", "Bob")] == [
        None
    ] * 8
    assert [lone_choice(text) for text in ("BC", "B^2", "b", "12", "B C", "K", "")] == [None] * 7
    assert not grade(r"\boxed{12}. Option B was tempting.", "B", answer_format="math")
    assert not grade("A) 3\nB) 4\nC) 5", "B", answer_format="math")  # a list of options
    assert grade("B) 12 apples", "12", answer_format="math")  # where no letter is asked for
    assert grade("B) 12 apples", "12", answer_format="gsm8k")


# ---- time ---------------------------------------------------------------------------------------------------

UNITS = [
    "answer ", "answer (", "answer (a) ", "answer, a, ", "answer to a ", "answer is that ", "is the answer ",
    "Answer\n", "final result ", "**Answer** ", "答", "答案是", "Q: ", "\nQuestion: ", "<answer>", "<|im_end|>",
    "option B ", "(B) ", "\nB) ", "$k$ ", "$1$, ", "$1$ and ", "is 1 ", "= 1 for ", r"\begin{align*}",
    r"\begin{align*} a \\ ", "[asy]", "$1=1=1", "$(((", "yes ", "it's ", "a 5 ", "１",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_time_grows_linearly_whatever_the_text_holds(unit):
    # quadratic work on 60,000 characters would take minutes; the bound leaves room for a busy machine
    text = unit * (60_000 // len(unit))
    start = time.process_time()
    for piece in (text, text + " $", "$ " + text):
        extract_answer(piece, "math")
    extract_answer(text, "math", choice=True)
    extract_answer(text, "gsm8k")
    stated_answers(text, "math")
    assert time.process_time() - start < 4
