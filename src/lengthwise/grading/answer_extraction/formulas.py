r"""Formulas between delimiters, and where a chain of equations ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lengthwise.grading.answer_extraction.answer_text import LONGEST_STATEMENT, tidy
from lengthwise.grading.answer_extraction.stated_answer import FORMULA, Stated

DISPLAY = r"\{(?:align|equation|gather|multline|eqnarray)\*?\}"
"""Source of a regular expression: the name of an environment that holds a formula."""
_DELIMITER = re.compile(rf"\\\\|\\\$|\\(?:begin|end){DISPLAY}|\$\$|\$|\\[\[\]()]|\n")
_CLOSES = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}


def formulas(text: str) -> Iterator[Stated]:
    r"""Formulas between ``$...$``, ``$$...$$``, ``\(...\)``, ``\[...\]`` or in ``\begin{align}`` and its like.

    A price ("$18 and $20") is none. Of several lines the last is taken.
    """
    if "$" not in text and "\\" not in text:
        return
    opened, start = "", 0
    for match in _DELIMITER.finditer(text):
        token, at = match[0], match.start()
        closes = opened and token == _CLOSES.get(opened, opened.replace("begin", "end"))
        if closes and (opened != "$" or _may_close(text, start, at)):
            content = tidy(_last_line(text[start + len(opened) : at], opened))
            if content:
                yield Stated(start, match.end(), content, FORMULA)
            opened = ""
        elif token == "\n":
            opened = "" if opened in ("$", "\\(") else opened
        elif _opens(token) or (opened in ("", "$") and token == "$" and not text[max(at - 1, 0) : at].isdigit()):
            opened, start = token, at


def _opens(token: str) -> bool:
    return token in _CLOSES or token.startswith("\\begin")


_LINES = re.compile(r"\s*\\begin\{(aligned|split|gathered|alignedat)\}(.*)\\end\{\1\}[\s.]*", re.DOTALL)
_LINE_PARTS = re.compile(r"\\(?P<change>begin|end)\s?\{|\\\\(?:\[[^\]\n]{0,9}\])?")


def _last_line(content: str, opened: str) -> str:
    inner = _LINES.fullmatch(content)
    if inner is None and not opened.startswith("\\begin"):
        return content
    content, depth, start = (content if inner is None else inner[2]).strip(), 0, 0
    for part in _LINE_PARTS.finditer(content):  # lines of a matrix are no lines of the formula
        if part["change"]:
            depth += 1 if part["change"] == "begin" else -1
        elif depth == 0 and part.end() < len(content):
            start = part.end()
    line, begins, matrix = content[start:].removesuffix("\\\\").partition("\\begin")
    return (line.replace("&", " ") + begins + matrix).strip().removeprefix("=")


def _may_close(text: str, start: int, at: int) -> bool:
    # As Pandoc reads it: no blank inside either dollar, no digit after the second. Models also write blanks there;
    # then there must be LaTeX between them, or no word, or "in $ or in $" would be a formula.
    if text[at + 1 : at + 2].isdigit():
        return False
    inside = text[start + 1 : at]
    blank = inside[:1].isspace() or inside[-1:].isspace()
    return not blank or "\\" in inside or re.search("[A-Za-z]{2}", inside) is None


_GROUP = re.compile(r"\\[{}]|[({\[][^(){}\[\]]*[)}\]]")
_LISTED = re.compile(r",(?!\\?!|\d{3})|;|\\(?:text|quad|\\)")


def end_of_chain(formula: str) -> str:
    """The right side of the last "=" of several: 28800 of ``2·5!·5! = 2·120·120 = 28800``."""
    parts = re.split(r"(?<![<>:=])=(?!=)", formula) if len(formula) <= LONGEST_STATEMENT else []
    if len(parts) < 3 or not parts[-1].strip() or parts[-1].count("{") != parts[-1].count("}"):
        return formula
    between = "".join(parts[1:-1])
    while (bare := _GROUP.sub("", between)) != between:
        between = bare
    return formula if _LISTED.search(between) else parts[-1].strip()  # "a = 1, b = 2, c = 3" is no chain
