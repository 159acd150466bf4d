"""Graders: the phrasings that models use, what is never read, and graders of one's own."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.graders import (
    Verdict,
    extract_answer,
    grade,
    grader_name,
    load_grader,
    same_answer,
)
from lengthwise.grading.prompt_contract import preset

# ---- lab ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("7 + 5 = 12 ; check: 7 + 5 = 12 ; A: 12", True),
        ("7 + 5 = 13 ; check: 7 + 5 = 12 ; A: 13", False),
        ("A: 13 ; A: 12", True),  # the last mark holds
        ("A: 12 ; A: 13", False),
        ("7 + 5 = 12", False),  # no mark, though the number is there
        ("7 + 5 = 12 ; A:", False),
        ("7 + 5 = 12 ; A: 12 ; check:", False),  # exactly the answer
        ("A: 012", False),
        ("A:  12 \n", True),
        ("BA: 12", False),
        ("", False),
    ],
)
def test_lab_takes_exactly_what_follows_the_last_mark(response, right):
    assert grade(response, "12", answer_format="lab").correct is right
    assert grade(response, "12", contract=preset("lab")).correct is right


# ---- phrasings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "response", "gold", "how"),
    [
        ("gsm8k", "9 * 2 = 18\n#### 18", "18", "after ####"),
        ("gsm8k", "#### 2,125", "2125", "after ####"),
        ("gsm8k", "#### $18.00", "#### 18", "after ####"),
        ("gsm8k", r"So \boxed{18} dollars.", "18", "boxed"),
        ("gsm8k", r"\boxed{\$18}", "18", "boxed"),
        ("gsm8k", r"\boxed{18\text{ dollars}}", "18", "boxed"),
        ("gsm8k", r"\boxed{18\%}", "18", "boxed"),
        ("gsm8k", r"Answer: \boxed{18}", "18", "boxed"),
        ("gsm8k", "The answer is 18.", "18", "phrase"),
        ("gsm8k", "the answer is $18.50 per day.", "18.5", "phrase"),
        ("gsm8k", "The final answer is: 2,125 dollars", "2125", "phrase"),
        ("gsm8k", "The answer to the question is 18, as asked.", "18", "phrase"),
        ("gsm8k", "The answer is 3 + 4 = 7 eggs for 9 people", "7", "phrase"),
        ("gsm8k", "The answer is 3 + 4", "7", "phrase"),
        ("gsm8k", "The answer is -5", "-5", "phrase"),
        ("gsm8k", "**Answer:** 18", "18", "phrase"),
        ("gsm8k", "Answer = 18", "18", "phrase"),
        ("gsm8k", "**Step 3:** count **18 eggs** of 20.", "18", "bold"),
        ("gsm8k", "She makes **$18** in all.", "18", "bold"),
        ("gsm8k", "#### Step 1: add\n9 * 2 = 18\n#### Answer\nThe answer is 18", "18", "phrase"),  # headings
        ("gsm8k", "#### Final Answer: 18", "18", "after ####"),
        ("gsm8k", "She counts 20.\nA: 18 eggs", "18", "after A:"),
        ("gsm8k", "**18 eggs**, and so **done**.", "18", "bold"),
        ("gsm8k", "It costs $18 and she has 20 in $ or so, that is $18", "18", "last number"),
        ("gsm8k", "The answer is not 17. It is 18.", "18", "last number"),
        ("gsm8k", "She ends up with 18 eggs.", "18", "last number"),
        ("math", r"\boxed{\frac{3}{4}}", r"\dfrac34", "boxed"),
        ("math", r"\fbox{0.75}", r"\frac{3}{4}", "boxed"),
        ("math", r"\boxed{x^2+2x+1}", "(x+1)^2", "boxed"),
        ("math", r"\boxed{\left( 3, \frac{\pi}{2} \right)}", r"(3, \frac{\pi}{2})", "boxed"),
        ("math", r"\boxed{2, 1}", "1, 2", "boxed"),
        ("math", r"\boxed{\text{(B)}}", r"\text{(B)}", "boxed"),
        ("math", r"\boxed{x = 5}", "5", "boxed"),
        ("math", r"\boxed{50\%}", "0.5", "boxed"),
        ("math", r"\boxed{a_{\{1\}}}, so \boxed{7}", "7", "boxed"),
        ("math", r"The answer is \frac{3}{4}.", r"\frac34", "phrase"),
        ("math", r"The answer is $90^\circ$.", "90", "phrase"),
        ("math", "The answer is Evelyn.", r"\text{Evelyn}", "phrase"),
        ("math", r"**Final Answer**: \(3\sqrt{13}\)", r"3\sqrt{13}", "phrase"),
        ("math", r"So **$\frac{1}{2}$**.", r"\frac{1}{2}", "bold"),
        ("math", r"Hence $x = 1$ and so \[y = 7.\]", "7", "last formula"),
        ("math", "#### 5", "5", "after ####"),
        ("math", r"Hence it is **\frac{3}{4}**, see 5.", r"\frac34", "bold"),
        ("math", "Hence **y = 2x + 3** for all 5.", "y = 3 + 2x", "bold"),
        ("math", "There are 5, and it is **Evelyn**.", r"\text{Evelyn}", "bold"),
        ("math", "A: (B)", r"\text{(B)}", "after A:"),
        ("math", r"After 5 steps we get \frac{3}{4}.", r"\frac34", "last formula"),
        ("math", "After 5 steps we get: x^2 + y^2 = 1", "y^2 + x^2 = 1", "last formula"),
        ("math", "- x = 5", "5", "last number"),
        ("math", r"It comes to $ \frac{1}{2} $, done.", r"\frac12", "last formula"),
        ("math", "It weighs 18 m.", "18", "last number"),
        ("math", "It is 18 \N{WHITE HEAVY CHECK MARK}", "18", "last number"),
        ("aime", r"\boxed{025}", "25", "boxed"),
        ("aime", r"\boxed{25}", "025", "boxed"),
        ("aime", "The answer is $m+n = 25$.", "25", "phrase"),
        ("auto", "7 + 5 = 12 ; A: 12", "12", "after A:"),
        ("auto", "#### 18", "She has 16 + 2 = 18.\n#### 18", "after ####"),
        ("auto", r"\boxed{18}", 18.0, "boxed"),
        ("auto", r"\boxed{18}", ["18"], "boxed"),
    ],
)
def test_right_answers_are_found_and_how(form, response, gold, how):
    verdict = grade(response, gold, answer_format=form)
    assert (verdict.correct, verdict.how) == (True, how), verdict
    assert bool(verdict)


@pytest.mark.parametrize(
    ("form", "response", "gold"),
    [
        ("gsm8k", "#### 19", "18"),
        ("gsm8k", "The answer is 19. Some say 18.", "18"),
        ("gsm8k", "-5", "5"),
        ("gsm8k", r"\boxed{10^2}", "10"),
        ("gsm8k", r"\boxed{\sqrt{16}}", "16"),
        ("gsm8k", "The answer is 118", "18"),
        ("gsm8k", "The answer is 1,800", "18"),
        ("math", r"\boxed{(2,1)}", "(1,2)"),
        ("math", r"\boxed{x+1}", "x+2"),
        ("math", r"\boxed{[0,1)}", "[0,1]"),
        ("math", r"\boxed{\text{Evelyn}}", r"\text{Anna}"),
        ("aime", r"\boxed{26}", "25"),
        ("auto", "I do not know.", "18"),
    ],
)
def test_wrong_answers_stay_wrong(form, response, gold):
    assert not grade(response, gold, answer_format=form)


@pytest.mark.parametrize("response", ["", "  \n"])
@pytest.mark.parametrize("form", ["lab", "gsm8k", "math", "aime", "auto"])
def test_an_empty_response_is_wrong_and_counted_as_such(form, response):
    assert grade(response, "1", answer_format=form) == Verdict(False, None, "empty response")


def test_a_box_that_was_cut_is_no_answer():
    for text in (r"so \boxed{\frac{", r"\boxed{", r"\boxed{}"):
        assert grade(text, "1", answer_format="math") == Verdict(False, None, "no answer")


# ---- a pattern of one's own ---------------------------------------------------------------------------------

PATTERN = r"(?i)result:([^;\n]*)"


@pytest.mark.parametrize(
    ("response", "extracted", "right"),
    [
        ("Result: 18", "18", True),
        ("Result: 17; RESULT:  18 ;", "18", True),  # the last match counts
        (r"Result: 18; \boxed{17} #### 17", "18", True),  # before everything else
        (r"Result: \frac{36}{2}", r"\frac{36}{2}", True),
        (r"\boxed{18}", None, False),  # nothing else does
        ("Result: ;", None, False),
    ],
)
def test_an_answer_pattern_replaces_every_other_way(response, extracted, right):
    verdict = grade(response, "18", answer_format="math", answer_pattern=PATTERN)
    assert verdict == Verdict(right, extracted, "answer pattern" if extracted else "no answer")
    contract = preset("math", answer_pattern=PATTERN)
    assert grade("Result: 17 </think>" + response, "18", contract=contract) == verdict


def test_an_answer_pattern_is_not_looked_for_in_the_thinking():
    contract = preset("math", answer_pattern=PATTERN)
    assert grade("Result: 18", "18", contract=contract).how == "thinking never closed"
    assert grade("Result: 18", "18", contract=preset("math", answer_pattern=PATTERN, answer_before_close=True))


def test_an_impossible_answer_pattern_is_refused():
    with pytest.raises(ConfigError, match="with 0 groups; it needs exactly one, the answer"):
        grade("18", "18", answer_pattern="Result")


# ---- thinking -----------------------------------------------------------------------------------------------

THINKING = preset("math")


def test_only_the_text_after_the_thinking_is_read():
    assert grade(r"maybe \boxed{17}</think>It is \boxed{18}.", "18", contract=THINKING)
    assert not grade(r"it is \boxed{18}</think>It is \boxed{17}.", "18", contract=THINKING)
    assert grade(r"it is \boxed{18}</think>Nothing here.", "18", contract=THINKING).how == "no answer"
    assert grade("it is 18</think>", "18", contract=THINKING).how == "no answer"


def test_unclosed_thinking_is_wrong_whatever_it_holds():
    for text in ("so 18", r"so \boxed{18}", "<think>the answer is 18"):
        assert grade(text, "18", contract=THINKING) == Verdict(False, None, "thinking never closed")
    reopened = r"a</think>\boxed{18}<think>no wait"
    assert grade(reopened, "18", contract=THINKING).how == "thinking never closed"


def test_answer_before_close_reads_marked_answers_but_never_the_last_number():
    early = preset("math", answer_before_close=True)
    assert grade(r"so \boxed{18} but wait 19", "18", contract=early)
    assert grade("the answer is 18. But wait, 19", "18", contract=early)
    for text in ("so 18", "so $x = 18$"):
        assert grade(text, "18", contract=early) == Verdict(False, None, "thinking never closed")


def test_without_a_contract_the_marks_in_the_text_hold():
    assert grade("17</think>It is 18.", "18")
    assert grade("<think>17</think>It is 18.", "18")
    assert grade("<think>It is 18", "18").how == "thinking never closed"
    assert grade("It is 18.", "18")


# ---- equality -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "given", "equal"),
    [
        # Math-Verify's traps: it compares the solutions of equations, and these have none
        ("x^2+1=0", "x^2+2=0", False),
        ("x^2+1=0", "0=1+x^2", True),
        ("e^x=-1", "e^x=-2", False),
        ("0=1", "0=2", False),
        ("x+1=x", "x+2=x", False),
        # equations that differ in their coefficients only
        ("y=2x+3", "y=4x+3", False),
        ("2x+3y=5", "4x+3y=5", False),
        ("2x+3y=5", "4x+6y=10", True),
        ("5x - 7y + 11z + 4 = 0", "5x - 7y + 11z - 4 = 0", False),
        (r"\frac{x^2}{4}+\frac{y^2}{9}=1", r"\frac{x^2}{9}+\frac{y^2}{4}=1", False),
        ("x^2+y^2=1", "x^2+2y^2=1", False),
        ("x^2+y^2=1", "y^2+x^2=1", True),
        ("f(x)=x^2", "f(x)=2x^2", False),
        ("y = x + 1", "x = y - 1", True),
        # one name with many values
        ("n=1,2,3", "n=2,3,4", False),
        ("n=1,2,3", "n=1,2,3", True),
        ("n=1,2,3", "1,2,3", True),
        ("n=1,2,3", "m=1,2,3", False),
        ("n=1,2,3", "n=1,2", False),
        ("x=1, y=2", "x=2, y=1", False),
        ("x=5", "5", True),
        # congruences and bases
        (r"x \equiv 1 \pmod 3", r"x \equiv 2 \pmod 3", False),
        (r"x \equiv 1 \pmod 3", r"x\equiv 1\pmod 3", True),
        ("52_8", "52_9", False),
        ("52_8", "52_{8}", True),
        ("52_8", "52", True),  # problems name the base themselves
        # order: sets and lists have none, points and intervals do
        (r"\{1,2\}", r"\{2,1\}", True),
        ("1, 2", "2, 1", True),
        ("1,2,3", "1,2", False),
        ("1", "1,2", False),
        ("(1,2)", "(2,1)", False),
        ("(1,2,3)", "(3,2,1)", False),
        (r"\{(1,2),(3,4)\}", r"\{(2,1),(3,4)\}", False),
        ("[1,2]", "(1,2)", False),
        ("(1,2]", "[1,2)", False),
        (r"[0,1)\cup(2,3]", r"(2,3]\cup[0,1)", True),
        (r"[0,1)\cup(2,3]", r"[0,1)\cup(2,4]", False),
        ("1<x<2", "1<x<3", False),
        ("x>3", "3<x", True),
        # percentages and units, fractions and roots
        (r"50\%", "50", True),
        (r"50\%", "0.5", True),
        (r"5\%", "0.5", False),
        (r"3\%", "30", False),
        (r"10\text{ cm}", "10", True),
        (r"10\text{ cm}", "100", False),
        (r"90^\circ", "90", True),
        (r"\frac12", "0.5", True),
        (r"\frac12", r"\dfrac{1}{2}", True),
        (r"\frac1{2}", "1/2", True),
        (r"1\frac{4}{5}", "9/5", True),
        (r"\sqrt2", r"\sqrt{2}", True),
        (r"\sqrt2", r"\sqrt[3]{2}", False),
        # decimals
        ("1/3", "0.333333", True),
        ("1/3", "0.33", False),
        ("2/3", "0.666667", True),
        ("0.3", "0.30000000000000004", True),
        ("0.0000001", "0.0000002", False),
        ("10", "10.000001", False),
        ("1000000", "1000000.4", False),
        # words
        ("ABC", "CBA", False),
        (r"\text{even}", r"\text{odd}", False),
        ("Yes", r"\text{No}", False),
        # sums of powers are no towers: nothing here is too costly to check
        ("x^2+y^2", "y^2+x^2", True),
        ("x^3+3x-6", "3x+x^3-6", True),
    ],
)
def test_equality_and_the_traps_of_math_verify(gold, given, equal):
    assert same_answer(given, gold, "math") is equal


@pytest.mark.parametrize(
    "costly",
    [
        "9^{9^{9}}",
        "9**9**9**9",
        "(9^9)^{9^9}",
        r"9^{9\cdot 9^9}",
        "((9!)!)!",
        "(x+y+z)^{9999}",
        r"\int_0^1 e^{x^2} dx",
        r"\sum_{k=1}^{100000} 1/k",
        "100000!",
        r"\binom{1000000}{500000}",
        "x" * 400,
    ],
)
def test_expressions_that_never_end_are_compared_as_text_only(costly):
    assert not same_answer(costly, "5", "math")
    assert same_answer(costly, f" {costly} ", "math")


LARGE = 200_000


@pytest.mark.parametrize(
    "unit",
    [
        "(", "{", r"\boxed{", r"\boxed{}", "#", "#### ", "#### Step\n", "answer is ", "answer to ", "**", "**a", "$",
        "$a ", "$1", r"\[", r"\(", "\\", "1", "1,111", "=", "=1.\n", "A:", "A: 1\n", "</think>", "x</think>y<think>",
        "\0", "\ud800", "\n", " ", r"\frac",
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("form", ["math", "gsm8k", "lab"])
def test_reading_is_linear_on_hostile_texts(unit, form):
    # quadratic work on 200,000 characters would take minutes; the bound leaves room for a busy machine
    start = time.process_time()
    assert not grade(unit * (LARGE // len(unit)), "18", answer_format=form)
    assert time.process_time() - start < 2


def test_grading_uses_no_signal_and_works_in_a_thread(monkeypatch):
    def refuse(*args):
        raise AssertionError("a library must not set signals")

    monkeypatch.setattr(signal, "signal", refuse)
    monkeypatch.setattr(signal, "alarm", refuse)
    found = []
    thread = threading.Thread(target=lambda: found.append(grade(r"\boxed{y+x}", "x+y", answer_format="math")))
    thread.start()
    thread.join()
    assert found[0].correct


def test_grading_warns_of_nothing():
    code = "from lengthwise.grading import grade; assert grade(r'\\boxed{y+x}', 'x+y', answer_format='math')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_math_verify_is_imported_only_when_needed():
    code = (
        "import sys; from lengthwise.grading.graders import grade; grade('A: 1', '1', answer_format='lab'); "
        "grade('#### 18', '18', answer_format='gsm8k'); print('math_verify' in sys.modules, 'sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"


# ---- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grade("x", "1", answer_format="mth"), "unknown answer_format 'mth'; did you mean math"),
        (lambda: grade(12, "1"), "response is a int"),
        (lambda: grade("x", ""), "answer is '', which holds no answer"),
        (lambda: grade("x", None), "answer is None"),
        (lambda: grade("x", "many", answer_format="gsm8k"), "wants a number"),
        (lambda: grader_name("mth"), "unknown answer_format"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_extract_answer_of_nothing():
    assert extract_answer("", "math") is None
    assert extract_answer("no digits", "auto") is None


def test_grader_names_carry_versions():
    assert grader_name("lab") == "lengthwise-lab/1"
    assert grader_name("math").startswith("lengthwise-math/3 (math-verify 0.")


# ---- graders of one's own -----------------------------------------------------------------------------------

OWN = """
import numpy as np
from lengthwise.grading.graders import Verdict

def exact(response, answer):
    return response == answer

def numpy_bool(response, answer):
    return np.bool_(response == answer)

def verdict(response, answer):
    return Verdict(True, response, "mine")

def text(response, answer):
    return "yes"

def half(response, answer):
    return 0.5

def fails(response, answer):
    raise KeyError("my own fault")

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_graders_for_test.py").write_text(OWN)
    (tmp_path / "own_broken_for_test.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield "own_graders_for_test"
    assert sys.path == before
    sys.modules.pop("own_graders_for_test", None)


def test_own_grader_from_the_working_folder(own):
    grader = load_grader(f"{own}:exact")
    assert grader("18", "18") == Verdict(True, None, f"{own}:exact")
    assert not grader("17", "18")
    assert load_grader(f"{own}:numpy_bool")("18", "18").correct is True
    assert load_grader(f"{own}:verdict")("a", "b").how == "mine"
    assert pickle.loads(pickle.dumps(grader))("18", "18")


@pytest.mark.parametrize("name", ["text", "half"])
def test_own_grader_must_return_true_or_false(own, name):
    with pytest.raises(InputError, match=f"'{own}:{name}' returned .* must return True or False"):
        load_grader(f"{own}:{name}")("a", "b")


def test_own_errors_are_one_line_with_their_place(own):
    with pytest.raises(InputError, match=r"_test:fails' raised KeyError: 'my own fault' \(own_graders_.*, line 21\)"):
        load_grader(f"{own}:fails")("a", "b")
    with pytest.raises(ConfigError, match=r"No module named 'a_module_that_is_not_there' \(own_broken_.*, line 1\)"):
        load_grader("own_broken_for_test:exact")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("exact", "write module:function"),
        (":exact", "write module:function"),
        ("own_graders_for_test:", "write module:function"),
        ("no_such_module_here:fn", "no module 'no_such_module_here'; install it, or run from the folder"),
        ("own_graders_for_test:exakt", "unknown function 'exakt'; did you mean exact"),
        ("own_graders_for_test:number", "unknown function 'number'"),
    ],
)
def test_own_grader_that_is_not_there(own, path, message):
    with pytest.raises(ConfigError, match=message):
        load_grader(path)
