"""A place in a row of tokens, and what can be asked and taken there."""

from __future__ import annotations

from collections.abc import Sequence

from lengthwise.grading.equality.tokens import Token, Unreadable


class Cursor:
    """Tokens and where reading has come to, ``at``."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = list(tokens)
        self.at = 0

    def peek(self, ahead: int = 0) -> Token | None:
        """The token so far ahead, if there is one."""
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else None

    def sign(self, *signs: str) -> str | None:
        """The next token, if it is one of these signs."""
        token = self.peek()
        return token.text if token is not None and token.kind == "sign" and token.text in signs else None

    def take(self, *signs: str) -> str | None:
        """Take it, if it is."""
        found = self.sign(*signs)
        self.at += found is not None
        return found

    def next(self) -> Token:
        """Take the next token; `Unreadable` at the end."""
        token = self.peek()
        if token is None:
            raise Unreadable("an expression that ends too early")
        self.at += 1
        return token

    def expect(self, sign: str) -> None:
        """Take a sign that must stand here."""
        if self.take(sign) is None:
            raise Unreadable(f"no {sign!r} where one is due")

    def is_command(self, *names: str) -> bool:
        """Whether the next token is one of these commands."""
        token = self.peek()
        return token is not None and token.kind == "command" and token.text in names

    def subscript(self) -> str:
        """What stands behind ``_``, as text."""
        self.expect("_")
        if not self.sign("{"):
            return self.next().text
        return "".join(self.inside_braces())

    def inside_braces(self) -> list[str]:
        """Texts of the tokens between braces, without inner braces."""
        found: list[str] = []
        depth = 0
        while True:
            token = self.next()
            opens, closes = (token.kind == "sign" and token.text == sign for sign in "{}")
            depth += opens - closes
            if depth == 0:
                return found
            if not opens and not closes:
                found.append(token.text)
