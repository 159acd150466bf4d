r"""Reads the tokens of one expression, all of them, or raises `Unreadable`: nothing is ever left out.

Multiplication may be implicit, a function may go without parentheses, and both LaTeX and plain text are read:
``2\sin^2 x``, ``sqrt(3)/2``, ``1\frac45``, ``\log_2 8``, ``|x-1|``, matrices. Letters are variables, but for e and i.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from lengthwise.grading.equality.cursor import Cursor
from lengthwise.grading.equality.tokens import FUNCTIONS, GREEK_NAMES, Token, Unreadable
from lengthwise.grading.equality.tree import Node, decimal, names, num, sym

_SYMBOLS = GREEK_NAMES | {"angle", "triangle", "ell", "hbar", "partial", "nabla", "aleph"}
_DRESSED = names("overline vec hat tilde dot ddot underline mathbb mathcal mathscr mathfrak")
_MATRICES = names("pmatrix bmatrix Bmatrix matrix smallmatrix array vmatrix")
_SEVERAL = frozenset(["max", "min", "gcd", "lcm"])
_TRIGONOMETRIC = names("sin cos tan cot sec csc")
_SAME_FUNCTION = {"lg": "log", "asin": "arcsin", "acos": "arccos", "atan": "arctan"} | {
    f"ar{name}": f"arc{name}" for name in ("sinh", "cosh", "tanh")
}
_PROSE = names("for is of the if when to be are as at all any has was not where with otherwise equals from by")
_CALLED = frozenset("fgFG")  # letters that are functions before a parenthesis; others are factors there
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_ROUND = {"⌊": ("⌋", "floor"), "⌈": ("⌉", "ceil")}
_DEEPEST, _MOST_FACTORS = 50, 60  # so that no recursion goes too deep


def read_expression(tokens: Sequence[Token], *, tight: bool = False) -> tuple[Node, bool]:
    """The expression that all the tokens make, and whether a division in it could be read in two ways.

    ``tight``: 1/2x is 1/(2x), not (1/2)x.
    """
    reader = _Reader(tokens, tight)
    node = reader.sum()
    if reader.at < len(reader.tokens):
        raise Unreadable(f"{reader.tokens[reader.at].text!r} behind an expression")
    return node, reader.loose


class _Reader(Cursor):
    """Recursive descent; each method reads one thing from ``at`` on and leaves ``at`` behind it."""

    def __init__(self, tokens: Sequence[Token], tight: bool) -> None:
        super().__init__(tokens)
        self.tight = tight
        self.loose = False  # a factor without a sign stands behind a divisor
        self._bars = 0  # open absolute values
        self._depth = 0
        self._angle = False  # inside the argument of a trigonometric function

    # ---- sums and products ---------------------------------------------------------------------------------------

    def sum(self) -> Node:
        """Terms with signs between them, the first with or without one."""
        self.go_deeper()
        terms = [self.term(self.take("+", "-", "±", "∓") or "+")]
        while sign := self.take("+", "-", "±", "∓"):
            terms.append(self.term(sign))
        self._depth -= 1
        return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

    def go_deeper(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Unreadable("an expression nested too deeply")

    def term(self, sign: str) -> Node:
        node = self.product()
        if sign == "-" and node.kind == "based":
            return Node("based", (), (f"-{node.value[0]}", node.value[1]))
        kind = {"-": "neg", "±": "pm", "∓": "mp"}.get(sign)
        return node if kind is None else Node(kind, (node,))

    def signed_factor(self) -> Node:
        sign = self.take("-", "+")
        node = self.power()
        return Node("neg", (node,)) if sign == "-" else node

    def product(self) -> Node:
        node = self.signed_factor()
        divided = False
        for _ in range(_MOST_FACTORS):
            if self.take("*"):
                node, divided = Node("mul", (node, self.signed_factor())), False
            elif self.take("/"):
                node, divided = Node("div", (node, self.divisor())), True
            elif self.starts_factor():
                self.loose = self.loose or divided
                mixed = self.mixed_number(node)
                node = mixed if mixed is not None else Node("mul", (node, self.implicit_factor()))
            else:
                return node
        raise Unreadable("a product of too many factors")

    def divisor(self) -> Node:
        node = self.signed_factor()
        while self.tight and self.starts_factor():
            node = Node("mul", (node, self.implicit_factor()))
        return node

    def starts_factor(self) -> bool:
        token = self.peek()
        if token is None:
            return False
        if token.kind == "command":
            return token.text not in ("\\", "end", "choose")
        if token.kind == "sign":
            return token.text in ("(", "[", "{", "√", "∞", "⌊", "⌈") or (token.text == "|" and self._bars == 0)
        return True

    def implicit_factor(self) -> Node:
        token, before = self.peek(), self.tokens[self.at - 1]
        if token is not None and token.kind == "number" and before.kind == "number":
            raise Unreadable("two numbers side by side")
        return self.power()

    def mixed_number(self, whole: Node) -> Node | None:
        """1\\frac45, or 1 4/5: a whole number directly before a proper fraction of two whole numbers."""
        before, start = self.tokens[self.at - 1], self.at
        if whole.kind != "num" or before.kind != "number" or whole.value.denominator != 1:
            return None
        if self.is_command("frac"):
            part = self.power()
        elif (slash := self.peek(1)) is not None and slash.text == "/" and self.tokens[self.at].spaced:
            top = self.atom()
            self.at += 1
            part = Node("div", (top, self.atom()))
        else:
            return None
        whole_numbers = all(side.kind == "num" and side.value.denominator == 1 for side in part.args)
        if part.kind == "div" and whole_numbers and 0 < part.args[0].value < part.args[1].value:
            return Node("add", (whole, part))
        self.at = start
        return None

    # ---- powers and what else stands behind ------------------------------------------------------------------------

    def power(self) -> Node:
        node = self.atom()
        for _ in range(_MOST_FACTORS):
            sign = self.take("^", "!", "'", "%", "°")
            if sign is None:
                return node
            if sign == "^":
                node = self.raised(node)
            elif sign == "!":
                if self.sign("!"):
                    raise Unreadable("a double factorial")
                node = Node("fact", (node,))
            elif sign == "'":
                node = self.primed(node)
            elif sign == "%":
                node = Node("div", (node, num(100)))
            elif self._angle:
                node = Node("mul", (node, Node("div", (Node("const", (), "pi"), num(180)))))
        raise Unreadable("a tower of powers")

    def raised(self, base: Node) -> Node:
        exponent = self.exponent()
        if base.kind == "matrix" and exponent in (sym("T"), sym("top")):
            return Node("transpose", (base,))
        return Node("pow", (base, exponent))

    def exponent(self) -> Node:
        if self.is_command("top"):
            self.at += 1
            return sym("top")
        sign = self.take("-", "+")
        node = self.group("{") if self.sign("{") else self.atom()
        return Node("neg", (node,)) if sign == "-" else node

    def primed(self, node: Node) -> Node:
        if node.kind != "sym":
            raise Unreadable("a prime behind what is no name")
        return self.called(sym(f"{node.value}'"))

    def called(self, name: Node) -> Node:
        """The name itself, or its value at what stands in the parentheses behind it."""
        inside, behind = self.peek(1), self.peek(2)
        # y(0) is no product
        at_number = inside is not None and inside.kind == "number" and behind is not None and behind.text == ")"
        if self.sign("(") and (at_number or name.value.rstrip("'") in _CALLED):
            return Node("call", tuple(self.arguments()), name.value)
        return name

    def arguments(self) -> list[Node]:
        closes = {"(": ")", "{": "}", r"\{": r"\}"}.get(opens := self.next().text)
        if closes is None:
            raise Unreadable(f"{opens!r} where arguments are due")
        found = [self.sum()]
        while self.take(","):
            found.append(self.sum())
        self.expect(closes)
        return found

    # ---- atoms ---------------------------------------------------------------------------------------------------

    def atom(self) -> Node:
        self.go_deeper()
        node = self.atom_of(self.next())
        self._depth -= 1
        return node

    def atom_of(self, token: Token) -> Node:
        if token.kind == "number":
            return self.number(token)
        if token.kind == "letter":
            return self.letter(token)
        if token.kind == "word":
            return self.word(token)
        if token.kind == "command":
            return self.command(token)
        if token.text in _BRACKETS:
            self.at -= 1
            return self.group(token.text)
        if token.text == "|":
            return self.absolute()
        if token.text in _ROUND:
            node = self.sum()
            closes, kind = _ROUND[token.text]
            self.expect(closes)
            return Node(kind, (node,))
        if token.text == "√":
            return Node("func", (self.atom(),), "sqrt")
        if token.text == "∞":
            return Node("const", (), "inf")
        raise Unreadable(f"{token.text!r} in an expression")

    def number(self, token: Token) -> Node:
        exact = not set(token.text) & set(".eE") or "\\" in token.text or "(" in token.text
        if self.sign("_"):
            return Node("based", (), (token.text, self.subscript()))
        assert token.value is not None, "a number has a value"
        return num(token.value) if exact else decimal(token.value, token.text)

    def letter(self, token: Token) -> Node:
        if self.sign("_"):
            return self.called(sym(f"{token.text}_{self.subscript()}"))
        following = self.peek()
        if following is not None and following.kind == "number" and not following.spaced and not token.upright:
            self.at += 1
            return sym(f"{token.text}_{following.text}")
        if token.text in ("e", "i"):
            return Node("const", (), token.text)
        return self.called(sym(token.text))

    def word(self, token: Token) -> Node:
        if token.text in ("min", "sec"):  # units too, but not here
            return self.function(token.text)
        if token.text.lower() in _PROSE and (token.upright or len(token.text) > 2):  # as may be a times s
            raise Unreadable("prose")
        if token.upright:
            return sym(f"word {token.text.lower()}")
        if token.text[:-1] in FUNCTIONS:  # "sinx" in plain text
            return self.insert([Token("command", token.text[:-1]), Token("letter", token.text[-1])])
        alone = token.spaced or self.at == 1
        if not (alone and len(token.text) > 3 and set(token.text.lower()) & set("aeiou")):
            return self.insert([Token("letter", letter) for letter in token.text])
        if self.starts_factor() or self.at > 1:
            raise Unreadable("a word in a product")
        return sym(f"word {token.text.lower()}")

    def insert(self, tokens: list[Token]) -> Node:
        """Read these in place of the token just taken."""
        self.tokens[self.at - 1 : self.at] = tokens
        self.at -= 1
        return self.atom()

    def command(self, token: Token) -> Node:
        name = token.text
        if name == "pi":
            return Node("const", (), "pi") if not self.sign("_") else sym(f"pi_{self.subscript()}")
        if name in _SYMBOLS:
            return sym(name) if not self.sign("_") else sym(f"{name}_{self.subscript()}")
        if name in FUNCTIONS:
            return self.function(_SAME_FUNCTION.get(name, name))
        if name in ("frac", "binom"):
            kind = "div" if name == "frac" else name
            return Node(kind, (self.argument(), self.argument()))
        if name == "sqrt":
            return self.root()
        if name in _DRESSED:
            return self.dressed(name)
        if name == "begin":
            return self.matrix(self.next().text)
        raise Unreadable(f"the command \\{name}")

    def argument(self) -> Node:
        """An argument of a command: braces, or one sign; of a number its first digit."""
        token = self.peek()
        if token is None or token.kind != "number" or len(token.text) == 1:
            return self.group("{") if self.sign("{") else self.atom()
        if not token.text.isdigit():
            raise Unreadable("a decimal without braces as an argument")
        parts = token.text[:1], token.text[1:]
        self.tokens[self.at : self.at + 1] = [Token("number", part, value=Fraction(int(part))) for part in parts]
        self.at += 1
        return num(int(parts[0]))

    def root(self) -> Node:
        degree = None
        if self.take("["):
            degree = self.sum()
            self.expect("]")
        radicand = self.group("{") if self.sign("{") else self.atom()
        if degree is None:
            return Node("func", (radicand,), "sqrt")
        return Node("func", (radicand, degree), "root")

    def dressed(self, name: str) -> Node:
        """A letter or letters under a bar, an arrow or the like: a name of its own."""
        inside = self.inside_braces() if self.sign("{") else [self.next().text]
        if not inside or not all(part.isalnum() for part in inside) or all(part.isdigit() for part in inside):
            raise Unreadable(f"what stands under \\{name}")
        written = sym(f"{name} {''.join(inside)}")
        return written if not self.sign("_") else sym(f"{written.value}_{self.subscript()}")

    def group(self, opens: str) -> Node:
        self.expect(opens)
        node = self.sum()
        if opens == "{" and self.is_command("choose"):
            self.at += 1
            node = Node("binom", (node, self.sum()))
        self.expect(_BRACKETS[opens])
        return node

    def absolute(self) -> Node:
        self._bars += 1
        node = self.sum()
        self._bars -= 1
        self.expect("|")
        return Node("abs", (node,))

    def matrix(self, environment: str) -> Node:
        if environment not in _MATRICES:
            raise Unreadable(f"the environment {environment}")
        if environment == "array" and self.sign("{"):
            self.inside_braces()
        rows: list[list[Node]] = [[self.sum()]]
        while not self.is_command("end"):
            if self.take("&"):
                rows[-1].append(self.sum())
            elif self.is_command("\\"):
                self.at += 1
                if not self.is_command("end"):
                    rows.append([self.sum()])
            else:
                raise Unreadable("what stands in a matrix")
        self.at += 1
        if self.next().text not in _MATRICES or len({len(row) for row in rows}) != 1:
            raise Unreadable("a matrix with another end, or with rows of unequal length")
        node = Node("matrix", tuple(entry for row in rows for entry in row), len(rows[0]))
        return Node("det", (node,)) if environment == "vmatrix" else node

    # ---- functions -----------------------------------------------------------------------------------------------

    def function(self, name: str) -> Node:
        base, exponent = None, None
        while sign := self.sign("_", "^"):
            if sign == "_":
                self.at += 1
                base = self.argument()
            else:
                self.at += 1
                exponent = self.exponent()
        if exponent == Node("neg", (num(1),)) and name in _TRIGONOMETRIC:
            name, exponent = f"arc{name}", None
        node = self.applied(name)
        if base is not None:
            if name != "log":
                raise Unreadable(f"a subscript of {name}")
            node = Node("div", (Node("func", node.args, "ln"), Node("func", (base,), "ln")))
        return node if exponent is None else Node("pow", (node, exponent))

    def applied(self, name: str) -> Node:
        if name in _SEVERAL:
            return Node("func", tuple(self.arguments()), name)
        outer, self._angle = self._angle, self._angle or name in _TRIGONOMETRIC
        opens = self.sign("(", "[", "{")
        argument = self.bare_argument() if opens is None else self.group(opens)
        self._angle = outer
        return Node("func", (argument,), name)

    def bare_argument(self) -> Node:
        """Factors without signs between them, up to a parenthesis or another function."""
        node = self.signed_factor()
        while self.starts_factor() and not self.sign("(", "[") and not self.is_command(*FUNCTIONS):
            mixed = self.mixed_number(node)
            node = mixed if mixed is not None else Node("mul", (node, self.implicit_factor()))
        return node
