"""Answers made from a grammar: each with another way to write it, and with one that looks like it and is wrong.

Every family gives (reference, equal, unequal) from a generator of random numbers; what is equal is so by construction.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import comb, factorial

Made = tuple[str, str, str]
Family = Callable[[random.Random], Made]
LETTERS = "abkmnprstwxyz"
SUMS = (r"\sqrt{%d}", r"\pi^{%d}", r"e^{%d}", r"\ln %d", r"\sqrt[3]{%d}", r"\sin %d")


def latex(value: Fraction, rng: random.Random) -> str:
    """A fraction, in one of the ways that people write it."""
    top, bottom, sign = abs(value.numerator), value.denominator, "-" * (value < 0)
    if bottom == 1:
        return f"{sign}{top}"
    forms = [rf"\frac{{{top}}}{{{bottom}}}", rf"\dfrac{{{top}}}{{{bottom}}}", f"{top}/{bottom}"]
    if top < 10 and bottom < 10:
        forms.append(rf"\frac{top}{bottom}")
    if top > bottom:
        forms.append(rf"{top // bottom}\frac{{{top % bottom}}}{{{bottom}}}")
    return sign + rng.choice(forms)


def fraction(rng: random.Random, most: int = 60) -> Fraction:
    return Fraction(rng.randint(-most, most) or 1, rng.randint(1, 20))


def beside(value: Fraction, rng: random.Random) -> Fraction:
    """Another number, near in how it is written."""
    changed = rng.choice([-value, value + 1, Fraction(value.numerator + 1, value.denominator), 1 / value, value / 10])
    return changed if changed != value else value + 1


def numbers(rng: random.Random) -> Made:
    value = fraction(rng)
    return latex(value, rng), latex(value, rng), latex(beside(value, rng), rng)


def decimals(rng: random.Random) -> Made:
    digits = rng.randint(1, 5)
    value = Fraction(rng.randint(1, 10**6), 10**digits)
    written = f"{float(value):.{digits}f}"
    other = rng.choice([written + "0", latex(value, rng), rf"{float(value) * 100:.{digits}f} \times 10^{{-2}}"])
    return written, other, f"{float(value + Fraction(rng.choice([1, 10, 1000]), 10**digits)):.{digits}f}"


def powers_of_ten(rng: random.Random) -> Made:
    lead, power = rng.randint(11, 99), rng.choice([-15, -12, -9, -3, 4, 8, 20])
    written = rf"{lead / 10} \times 10^{{{power}}}"
    equal = rng.choice(
        [f"{lead / 10}e{power}", rf"{lead} \cdot 10^{{{power - 1}}}", rf"{lead / 100:.2f}\times10^{{{power + 1}}}"]
    )
    unequal = rng.choice(
        [rf"{lead / 10} \times 10^{{{power + 1}}}", f"{(lead + 1) / 10}e{power}", f"{lead / 10}e{-power}"]
    )
    return written, equal, unequal


def polynomial(coefficients: list[int], name: str, rng: random.Random) -> str:
    terms = [f"{value:+d}{f'{name}^{{{power}}}' if power else ''}" for power, value in enumerate(coefficients) if value]
    rng.shuffle(terms)
    return "".join(terms).removeprefix("+") or "0"


def polynomials(rng: random.Random) -> Made:
    name = rng.choice(LETTERS)
    coefficients = [rng.randint(-9, 9) for _ in range(rng.randint(2, 5))] + [rng.randint(1, 9)]
    changed = list(coefficients)
    changed[rng.randrange(len(changed))] += rng.choice([-1, 1, 2])
    return tuple(polynomial(part, name, rng) for part in (coefficients, coefficients, changed))  # type: ignore[return-value]


def factored(rng: random.Random) -> Made:
    first, second, name = rng.randint(1, 9), rng.randint(-9, -1), rng.choice(LETTERS)
    expanded = f"{name}^2{first + second:+d}{name}{first * second:+d}"
    return expanded, f"({name}{first:+d})({name}{second:+d})", f"({name}{first:+d})({name}{-second:+d})"


def rational_functions(rng: random.Random) -> Made:
    low, high, name = rng.randint(1, 5), rng.randint(6, 9), rng.choice(LETTERS)
    split = rf"\frac{{1}}{{{name}+{low}}}-\frac{{1}}{{{name}+{high}}}"
    joined = rf"\frac{{{high - low}}}{{({name}+{low})({name}+{high})}}"
    return split, joined, rng.choice([joined.replace(f"+{low}", f"-{low}"), f"-{joined}", split.replace("}-", "}+")])


def radicals(rng: random.Random) -> Made:
    outer, inner, rest = rng.randint(2, 12), rng.choice([2, 3, 5, 6, 7, 10]), rng.randint(-9, 9)
    written = rf"{rest}+{outer}\sqrt{{{inner}}}"
    equal = rng.choice([rf"\sqrt{{{outer**2 * inner}}}+{rest}", rf"{rest} + {outer}\sqrt({inner})"])
    return (
        written,
        equal,
        rng.choice([rf"{rest}-{outer}\sqrt{{{inner}}}", rf"{rest}+{outer}\sqrt{{{inner + 1}}}", str(rest)]),
    )


def closed_forms(rng: random.Random) -> Made:
    low, high = rng.choice(SUMS) % rng.randint(2, 9), rng.choice(SUMS) % rng.randint(11, 19)
    scale = rng.randint(2, 9)
    written = rf"\frac{{{low} + {scale}{high}}}{{{scale}}}"
    return written, rf"{high} + \frac{{1}}{{{scale}}} {low}", rf"{high} - \frac{{1}}{{{scale}}} {low}"


def functions(rng: random.Random) -> Made:
    name = rng.choice(LETTERS)
    written, equal, unequal = rng.choice([
        (r"\cosh %s", r"\frac{e^{%s}+e^{-%s}}{2}", r"\frac{e^{%s}-e^{-%s}}{2}"),
        (r"\sinh %s", r"\frac{e^{%s}-e^{-%s}}{2}", r"\frac{e^{%s}+e^{-%s}}{2}"),
        (r"\sqrt{1/%s}", r"\frac{1}{\sqrt{%s}}", r"\sqrt{%s}"),
        (r"\sin 2%s", r"2\sin %s \cos %s", r"2\sin %s \sin %s"),
        (r"\tan^2 %s + 1", r"\sec^2(%s)", r"\csc^2(%s)"),
        (r"\ln(%s^3)", r"3\ln %s", r"\ln(3%s)"),
        (r"\frac{1}{%s^{-2}}", "%s^2", "%s^{-2}"),
        (r"\log_3 %s", r"\frac{\ln %s}{\ln 3}", r"\frac{\ln 3}{\ln %s}"),
        (r"|%s-1|", r"|1-%s|", r"%s-1"),
        (r"\binom{%s}{2}", r"\frac{%s(%s-1)}{2}", r"\frac{%s(%s+1)}{2}"),
    ])  # fmt: skip
    return tuple(form.replace("%s", name) for form in (written, equal, unequal))  # type: ignore[return-value]


def several_letters(rng: random.Random) -> Made:
    one, two, three = rng.sample("abhrstxyz", 3)
    scale = rng.randint(2, 9)
    written = rf"{scale}\pi {one} {two} + {three}^2"
    return written, rf"{three}^2 + {scale}\pi {two}{one}", rng.choice([
        rf"{scale}\pi {one} + {three}^2", rf"{scale}\pi {one} {three} + {two}^2", rf"{scale}\pi {one} {two}",
    ])  # fmt: skip


def one_letter(rng: random.Random) -> Made:
    name, bottom = rng.choice("mgshdLNtklpc"), rng.randint(2, 9)
    return rf"\frac{{1}}{{{bottom}}}{name}", rf"\frac{{{name}}}{{{bottom}}}", rf"\frac{{1}}{{{bottom}}}"


def complex_numbers(rng: random.Random) -> Made:
    real, imaginary = rng.randint(-9, 9), rng.randint(1, 9)
    return f"{real}+{imaginary}i", f"{imaginary}i{real:+d}", f"{real}-{imaginary}i"


def whole_functions(rng: random.Random) -> Made:
    top = rng.randint(4, 12)
    below = rng.randint(1, 3)
    return rng.choice([
        (f"{top}!", str(factorial(top)), str(factorial(top - 1))),
        (rf"\binom{{{top}}}{{{below}}}", str(comb(top, below)), str(comb(top + 1, below))),
        (rf"2^{{{top}}}-1", str(2**top - 1), str(2**top)),
        (rf"\frac{{1}}{{3^{{{top + 60}}}}}", rf"3^{{-{top + 60}}}", rf"3^{{-{top + 61}}}"),
    ])  # fmt: skip


def entries(rng: random.Random, count: int) -> list[str]:
    made: set[Fraction] = set()
    while len(made) < count:
        made.add(fraction(rng, 40))
    return [latex(value, rng) for value in sorted(made)]


def lists(rng: random.Random) -> Made:
    found = entries(rng, rng.randint(2, 5))
    shuffled = rng.sample(found, len(found))
    between = rng.choice([", ", ",", r" \text{ and } ", r",\; "])
    return ", ".join(found), between.join(shuffled), rng.choice([", ".join(found[:-1]), ", ".join([*found, "77"])])


def points(rng: random.Random) -> Made:
    found = entries(rng, rng.randint(2, 4))
    turned = found[1:] + found[:1]
    return f"({', '.join(found)})", rf"\left({','.join(found)}\right)", f"({', '.join(turned)})"


def sets(rng: random.Random) -> Made:
    found = entries(rng, rng.randint(2, 4))
    return (
        rf"\{{{', '.join(found)}\}}",
        rf"\left\{{ {', '.join(found[::-1])} \right\}}",
        rf"\{{{', '.join(found[1:])}\}}",
    )


def endless_lists(rng: random.Random) -> Made:
    start, step = rng.randint(1, 9), rng.randint(1, 5)
    terms = [str(start + step * place) for place in range(3)]
    return rf"{', '.join(terms)}, \ldots, 99", f"{','.join(terms)},...,99", rf"{', '.join(terms)}, \ldots, 98"


def intervals(rng: random.Random) -> Made:
    low, high = sorted(rng.sample(range(-20, 20), 2))
    name = rng.choice("xtn")
    opens, closes = rng.choice("(["), rng.choice(")]")
    left, right = ("<" if opens == "(" else r"\le"), ("<" if closes == ")" else r"\le")
    chain = rf"{low} {left} {name} {right} {high}"
    wrong = rng.choice([f"{opens}{low}, {high + 1}{closes}", f"{'[' if opens == '(' else '('}{low}, {high}{closes}"])
    equal = rng.choice([chain, rf"{name} \in \left{opens}{low},{high}\right{closes}"])
    return f"{opens}{low}, {high}{closes}", equal, wrong


def unions(rng: random.Random) -> Made:
    one, two, three, four = sorted(rng.sample(range(-20, 20), 4))
    written = rf"({one}, {two}) \cup [{three}, {four})"
    equal = rng.choice([rf"[{three},{four})\cup({one},{two})", rf"{one}<x<{two} \text{{ or }} {three} \le x < {four}"])
    return (
        written,
        equal,
        rng.choice([f"({one}, {two})", rf"({one}, {two}) \cup ({three}, {four})", f"({one}, {four})"]),
    )


def rays(rng: random.Random) -> Made:
    end = rng.randint(-9, 9)
    return rf"(-\infty, {end}]", rng.choice([rf"x \le {end}", f"{end} >= x", f"2x <= {2 * end}"]), f"x < {end}"


def plus_minus(rng: random.Random) -> Made:
    middle, apart = rng.randint(1, 9), rng.choice([2, 3, 5, 7])
    both = rf"{middle}+\sqrt{{{apart}}}, {middle}-\sqrt{{{apart}}}"
    return (
        rf"{middle} \pm \sqrt{{{apart}}}",
        both,
        rng.choice([both.split(",")[0], rf"{middle} \pm \sqrt{{{apart + 8}}}"]),
    )


def matrices(rng: random.Random) -> Made:
    values = [rng.randint(-9, 9) for _ in range(4)]
    first, second, third, fourth = values
    shape = r"\begin{%s} %d & %d \\ %d & %d \end{%s}"
    return (
        shape % ("pmatrix", first, second, third, fourth, "pmatrix"),
        shape % ("bmatrix", first, second, third, fourth, "bmatrix"),
        shape % ("pmatrix", first, second, third, fourth + 1, "pmatrix"),
    )


def equations(rng: random.Random) -> Made:
    slope, shift, times = rng.randint(2, 9), rng.randint(1, 9), rng.randint(2, 5)
    written = f"y = {slope}x + {shift}"
    equal = rng.choice([
        f"{slope}x - y + {shift} = 0", f"{times}y = {slope * times}x + {shift * times}",
        f"{slope}x + {shift}", f"y - {shift} = {slope}x",
    ])  # fmt: skip
    return (
        written,
        equal,
        rng.choice([f"y = {slope}x - {shift}", f"y = {slope + 1}x + {shift}", f"{slope}y = x + {shift}"]),
    )


def curves(rng: random.Random) -> Made:
    one, two = rng.sample(range(2, 9), 2)
    written = rf"\frac{{x^2}}{{{one}}}+\frac{{y^2}}{{{two}}}=1"
    return written, f"{two}x^2+{one}y^2={one * two}", rf"\frac{{x^2}}{{{two}}}+\frac{{y^2}}{{{one}}}=1"


def vectors(rng: random.Random) -> Made:
    one, two = rng.randint(1, 9), rng.randint(1, 9)
    written = rf"x=k\begin{{pmatrix}}{one}\\{two}\end{{pmatrix}}"
    return written, written.replace("pmatrix", "bmatrix"), rf"x=k\begin{{pmatrix}}{one}\\{two + 1}\end{{pmatrix}}"


def named(rng: random.Random) -> Made:
    one, two = entries(rng, 2)
    written = f"a = {one}, b = (0, {two})"
    return (
        written,
        f"b=(0,{two}), a={one}",
        rng.choice([f"a = {one}, b = ({two}, 0)", f"a = {one}", f"a = {two}, b = (0, {one})"]),
    )


def ratios(rng: random.Random) -> Made:
    parts = [rng.randint(1, 9) for _ in range(3)]
    times = rng.randint(2, 5)
    return (
        ":".join(map(str, parts)),
        ":".join(str(times * part) for part in parts),
        ":".join(map(str, [*parts[:2], parts[2] + 1])),
    )


def quantities(rng: random.Random) -> Made:
    value = rng.randint(2, 99)
    unit, other, wrong = rng.choice([
        (r"\text{ cm}", r"\text{ centimeters}", r"\text{ m}"), (r"\text{ kg}", r"\mathrm{kg}", r"\text{ g}"),
        (r"\text{ m/s}", r"\text{ meters per second}", r"\text{ km/h}"),
        (r"\text{ hours}", r"\text{ h}", r"\text{ minutes}"),
        (r"\mbox{ cm}^2", r"\text{ square centimeters}", r"\mbox{ cm}^3"), (r"^\circ", r"^{\circ}", r"\%"),
        (r"\text{ apples}", r"\text{ apples}", r"\text{ pears}"), (r"\text{ square units}", "", r"\text{ cubic units}"),
    ])  # fmt: skip
    changed = rng.choice([f"{value}{wrong}", f"{value + 1}{unit}"])
    return f"{value}{unit}", rng.choice([f"{value}{other}", str(value)]), changed


def times(rng: random.Random) -> Made:
    hours, minutes = rng.randint(1, 12), rng.randint(1, 58)
    written = rf"{hours} \text{{ h }} {minutes} \text{{ min}}"
    equal = rng.choice([rf"{60 * hours + minutes} \text{{ minutes}}", f"{hours} hours {minutes} minutes"])
    return written, equal, rng.choice([rf"{hours} \text{{ h }} {minutes + 1} \text{{ min}}", rf"{hours} \text{{ h}}"])


def clocks(rng: random.Random) -> Made:
    hours, minutes = rng.randint(1, 12), rng.randint(0, 58)
    written = rf"{hours}:{minutes:02d} \text{{ p.m.}}"
    return (
        written,
        f"{hours}:{minutes:02d} pm",
        rng.choice([written.replace("p.m.", "a.m."), f"{hours}:{minutes + 1:02d} pm"]),
    )


def prices(rng: random.Random) -> Made:
    cents = rng.randint(100, 99999)
    equal = rng.choice([rf"\${cents / 100:.2f}", rf"{cents / 100:.2f} \text{{ dollars}}", f"{cents / 100:.2f}"])
    return rf"\${cents / 100:,.2f}", equal, rng.choice([rf"\${(cents + 1) / 100:.2f}", f"€{cents / 100:.2f}"])


def percentages(rng: random.Random) -> Made:
    value = rng.randint(1, 400)
    equal = rng.choice([rf"{value}.0\%", rf"{value} \text{{ percent}}", latex(Fraction(value, 100), rng), str(value)])
    return rf"{value}\%", equal, rng.choice([rf"{value + 1}\%", rf"{value / 10}\%", latex(Fraction(value, 10), rng)])


def thousands(rng: random.Random) -> Made:
    value = rng.randint(10_000, 99_999_999)
    equal = rng.choice(
        [
            f"{value:,}",
            f"{value:,}".replace(",", "{,}"),
            f"{value:,}".replace(",", r"\,"),
            f"{value:,}".replace(",", " "),
        ]
    )
    return str(value), equal, f"{value + 1:,}"


def bases(rng: random.Random) -> Made:
    digits, base = "".join(rng.choice("1234") for _ in range(4)), rng.randint(5, 9)
    return (
        f"{digits}_{base}",
        f"{digits}_{{{base}}}",
        rng.choice([f"{digits}_{{{base + 1}}}", f"{digits[:-1]}0_{base}"]),
    )


def repeating(rng: random.Random) -> Made:
    digit = rng.randint(1, 8)
    value = Fraction(digit, 9)
    return rf"0.\overline{{{digit}}}", latex(value, rng), latex(value + Fraction(1, 9), rng)


def words(rng: random.Random) -> Made:
    one, two = rng.sample(["east", "west", "ellipse", "circle", "even", "odd", "no solution", "Monday", "Evelyn"], 2)
    return rf"\text{{{one}}}", rng.choice([one, rf"\textbf{{{one}}}", rf"\text{{ {one.upper()} }}"]), rf"\text{{{two}}}"


def unread(rng: random.Random) -> Made:
    low, high = rng.randint(0, 3), rng.randint(4, 9)
    written = rf"\int_{{{low}}}^{{{high}}} f(x)\,dx"
    return written, rf"\int_{{{low}}}^{{{high}}}f(x) dx", rf"\int_{{{low}}}^{{{high + 1}}} f(x)\,dx"


FAMILIES: tuple[Family, ...] = (
    numbers, decimals, powers_of_ten, polynomials, factored, rational_functions, radicals, closed_forms, functions,
    several_letters, one_letter, complex_numbers, whole_functions, lists, points, sets, endless_lists, intervals,
    unions, rays, plus_minus, matrices, equations, curves, vectors, named, ratios, quantities, times, clocks, prices,
    percentages, thousands, bases, repeating, words, unread,
)  # fmt: skip


def made(count: int, seed: int = 0) -> Iterator[tuple[str, Made]]:
    """So many of each family, with the family's name."""
    for family in FAMILIES:
        rng = random.Random(f"{seed} {family.__name__}")
        for _ in range(count):
            yield family.__name__, family(rng)


def broken(text: str, rng: random.Random) -> str:
    """A text with one sign lost, said twice, turned around with its neighbor, or replaced by another."""
    place = rng.randrange(len(text))
    before, sign, behind = text[:place], text[place], text[place + 1 :]
    return rng.choice([
        before + behind, before + sign + sign + behind, before + behind[:1] + sign + behind[1:],
        before + rng.choice(r"0123456789xme+-*/^_(){}[],.;:=<>|%$\ ") + behind,
    ])  # fmt: skip
