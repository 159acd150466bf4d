"""Answers that a grader compares: expressions from a grammar, from plain ones to deep, huge and broken ones."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lengthwise.errors import InputError
from lengthwise.grading.graders import STOPPED, Verdict
from lengthwise.grading.prompt_contract import preset
from lengthwise.grading.worker_pool import IsolatedPool, Stopped, make_grader
from reliability._harness import Ask, Tally, harness
from reliability._mutations import ODD_TEXTS

SECONDS, MEMORY = 5.0, 1024
"""Bounds of one comparison in its worker: seconds, and MiB on top of what it holds when it is ready."""
RAISED = "comparing raised"
LEAVES = (
    "0", "1", "-1", "7", "12", "0.5", ".5", "3.", "1e9", "1E-400", "10^{10}", "x", "y", "n", r"\pi", "e", "i",
    r"\infty",
    "∞", "٣", "１２", "𝟙", "½", "²", "x²", "−3", "1,000", "1 000", "1{,}000", r"50\%", r"\$5", r"90^\circ", "3:4",
    "12:00",
    r"\text{yes}", r"\emptyset", "∅", r"\mathbb{R}", r"\ldots", "A", r"\alpha", r"5\text{ cm}", r"3\frac{1}{2}",
    "0x1F", "",
    "1_000", "NaN", "inf", "None", "__import__('os')", "lambda: 0", "{0}", "%d", "\x00", "\u202e1", "9" * 400,
    "0." + "3" * 400,
)  # fmt: skip
WRAPPED = (
    r"\frac{%s}{%s}", r"\dfrac %s %s", "%s/%s", "%s+%s", "%s-%s", r"%s\cdot %s", r"%s\times %s", "%s^{%s}", "%s**%s",
    "%s^%s",
    "%s=%s", r"%s\le %s", "%s<%s", r"%s\ne %s", r"\sqrt[%s]{%s}", "(%s,%s)", "[%s,%s]", "(%s,%s]", r"\{%s,%s\}",
    r"%s\cup %s",
    r"%s\cap %s", r"%s\pm %s", r"\begin{pmatrix}%s & %s\end{pmatrix}", r"\begin{bmatrix}%s\\%s\end{bmatrix}",
    r"\binom{%s}{%s}", r"\log_{%s} %s", "%s %s", "%s; %s", r"%s \text{ and } %s", "%s_{%s}", r"%s\pmod{%s}",
    "%s mod %s",
    r"\begin{cases}%s\\%s\end{cases}", r"%s \text{ or } %s", r"\left(%s\right|%s", r"\sum_{%s}^{%s} k",
    r"\int_{%s}^{%s} x\,dx",
)  # fmt: skip
SINGLE = (
    "(%s)", "{%s}", "[%s]", "-%s", "+%s", "|%s|", "%s!", r"\sqrt{%s}", r"\sqrt %s", r"\sin(%s)", r"\ln %s",
    r"\exp{%s}", "$%s$",
    r"\boxed{%s}", r"\text{%s}", r"\left(%s\right)", r"\overline{%s}", r"\mathrm{%s}", "%s%%", r"%s^\circ",
    r"\lfloor %s \rfloor",
    "x=%s", "%s.", r"\{%s\}", r"0.\overline{%s}", "%s!!", r"\mathbf{%s}", r"\(%s\)", "((%s", "%s))", r"\frac{%s", "{%s",
)  # fmt: skip
POWERS = (
    "2^{%s}",
    "9^{9^{%s}}",
    "10^{10^{%s}}",
    "%s!",
    "(%s)!!",
    "2^{-%s}",
    r"\binom{%s}{7}",
    "x^{%s}=1",
    r"\sqrt[%s]{2}",
    "1.%s",
)


@dataclass(frozen=True)
class Judge:
    """Grades in a worker; a reference that nothing can be read from is refused in a line, which is no failure.

    Nor is what comparing raises: that makes the answer wrong and is named in the verdict.
    """

    grade: Callable[[tuple[str, str]], Verdict]

    def __call__(self, asked: tuple[str, str]) -> str | None:
        """What went wrong, if anything; `RAISED` where comparing raised."""
        try:
            return None if self.grade(asked).error is None else RAISED
        except InputError as error:
            return None if "\n" not in str(error) else "a message of several lines"
        except Exception as error:
            return f"traceback: {error!r}"


def make_judge() -> Judge:
    """What each worker makes once."""
    return Judge(make_grader(preset("math")))


@harness("bad-expressions", "Bad input", "pairs of answers from a grammar, graded under the time limit", cases=20_000)
def bad_expressions(ask: Ask) -> Tally:
    """A verdict comes for each pair, in its turn, within the limit; what the limit stopped is counted in the notes."""
    failures: list[str] = []
    stopped = {"time": 0, "memory": 0, "died": 0}
    done, raised, last = 0, 0, time.monotonic()
    pairs = (pair(ask.dice(number)) for number in ask.numbers())
    with IsolatedPool(make_judge, workers=1, seconds=SECONDS, memory_mib=MEMORY) as pool:
        for found in pool.map(pairs):
            now = time.monotonic()
            raised += found == RAISED
            wrong = _stop(found, stopped) if isinstance(found, Stopped) else None if found == RAISED else found
            if done and now - last > 20 * SECONDS:
                wrong = f"took {now - last:.0f} s"
            if wrong is not None:
                failures.append(f"case {done}: {wrong}: {pair(ask.dice(done))}"[:400])
            done, last = done + 1, now
    told = (
        f"{stopped['time']} were {STOPPED} of {SECONDS:.0f} s and {stopped['memory']} by that of {MEMORY} MiB, "
        f"comparing raised in {raised}: wrong, and counted"
    )
    return Tally(done, tuple(failures), told)


def _stop(found: Stopped, stopped: dict[str, int]) -> str | None:
    stopped[found.reason] += 1
    return "the worker died" if found.reason == "died" else None


def pair(rng: random.Random) -> tuple[str, str]:
    """A response and a reference answer; at times two writings of the same."""
    one = expression(rng)
    other = one if rng.random() < 0.2 else expression(rng)
    if rng.random() < 0.2:
        other = one + rng.choice(["", " ", ".", "0", "!", ")", r"\,", "x"])
    form = rng.choice(
        [r"so \boxed{%s}", r"\boxed{%s", "The answer is %s.", "#### %s", "%s", "<think>x</think>%s", "$$%s$$"]
    )
    return form.replace("%s", one), other if other.strip() else "7"


def expression(rng: random.Random) -> str:
    """An expression, mostly small, at times deep, huge or odd."""
    kind = rng.random()
    if kind < 0.03:
        return rng.choice(ODD_TEXTS)[:5000]
    if kind < 0.08:
        return rng.choice(POWERS).replace("%s", rng.choice(["9", "99", "9999", "99999999", "9" * 30, "9" * 400]))
    if kind < 0.11:
        return "".join(_nested(rng))
    if kind < 0.13:
        return ",".join(_tree(rng, 1) for _ in range(rng.choice([20, 200, 1000])))
    text = _tree(rng, rng.choice([0, 1, 1, 2, 2, 3, 4]))
    if rng.random() < 0.15 and text:
        at = rng.randrange(len(text))
        text = (
            text[:at]
            + rng.choice(["", "{", "}", "\\", "^", "(", ")", "\x00", "é", "_", "&", "$", "%", "#", "~"])
            + text[at + 1 :]
        )
    return text[:20_000]


def _tree(rng: random.Random, depth: int) -> str:
    if depth <= 0:
        return rng.choice(LEAVES)
    if rng.random() < 0.4:
        return rng.choice(SINGLE).replace("%s", _tree(rng, depth - 1))
    first, second = _tree(rng, depth - 1), _tree(rng, depth - 1 - rng.randrange(2))
    return rng.choice(WRAPPED).replace("%s", first, 1).replace("%s", second, 1)


def _nested(rng: random.Random) -> Iterator[str]:
    """Deep brackets, fractions, roots and powers."""
    opens, middle, closes = rng.choice([
        ("(", "1", ")"), ("{", "1", "}"), (r"\frac{1}{1+", "1", "}"), (r"\sqrt{", "2", "}"), ("2^{", "2", "}"), ("-",
        "1", ""),
        (r"\left(", "x", r"\right)"), ("|", "x", "|"), (r"\text{", "a", "}"), ("[", "1,2", "]"), (r"\{", "1", r"\}"),
        ("", "1", "!"),
        (r"\sin ", "x", ""), ("1+", "1", ""), ("1,", "1", ""), (r"\begin{pmatrix}", "1", r"\end{pmatrix}"), ("x=",
        "1", ""),
    ])  # fmt: skip
    depth = rng.choice([5, 50, 400, 3000])
    yield opens * depth
    yield middle
    yield closes * (depth if rng.random() < 0.8 else depth - 1)
