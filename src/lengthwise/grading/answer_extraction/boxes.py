r"""Boxes, ``\boxed{18}``: where they stand, and which of them make one answer."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from lengthwise.grading.answer_extraction.answer_text import answer_key, plain

Box = tuple[int, int, str]
"""Start, end, content."""

_BOX = r"(?<!\\)\\++(?:f?boxed|f(?:rame)?box)"
_BRACES = re.compile(rf"(?P<box>{_BOX}\s*+\{{)|\\[\\{{}}]|[{{}}]")
# Backslashes may be lost, or eaten: "\b" and "\f" are one character in careless JSON. Slower, so for such texts only.
_BARE_BRACES = re.compile(rf"(?P<box>(?:{_BOX}|\x08oxed|\x0cbox|(?<![A-Za-z\\])boxed)\s*+\{{)|\\[\\{{}}]|[{{}}]")


def boxes(text: str) -> Iterator[Box]:
    r"""Every ``\boxed{...}`` and ``\fbox{...}``, braces balanced, innermost only: (start, end, content).

    One that holds nothing but spacing or dots has no content; nor has one that never closes, the last, which ends with
    the text. In order of their ends, which for boxes
    that hold no box is the order of their starts. Linear in the text.
    """
    if "ox" not in text:
        return
    eaten = "\x08oxed" in text or "\x0cbox" in text or text.count("boxed") > text.count("\\boxed")
    open_braces: list[tuple[int, int] | None] = []
    last = -1
    for match in (_BARE_BRACES if eaten else _BRACES).finditer(text):
        token = match[0]
        if match["box"] is not None:
            open_braces.append((match.start(), match.end()))
        elif token == "{":
            open_braces.append(None)
        elif token == "}" and open_braces:
            box = open_braces.pop()
            if box is not None and box[0] > last:
                last = box[0]
                content = text[box[1] : match.start()].strip()
                yield box[0], match.end(), content if plain(content) else ""
    unclosed = next((box for box in reversed(open_braces) if box is not None), None)
    if unclosed is not None and unclosed[0] > last:
        yield unclosed[0], len(text), ""


_SPACE = r"(?:[\s$&{}*_]|\\[()\[\],;:! ]|\\\\|\\q?quad|\\text\s*\{\s*\})"
_STEP = re.compile(
    rf"{_SPACE}*+(?:=|≈|→|⇒|⟹|\\(?:approx|equiv|cong|sim|to|implies|iff|(?:long)?(?:r|R|leftr|Leftr)ightarrow))"
)
_REPLACED = re.compile(
    r"[.?!](?=[\s$*)\\]|$)"  # another sentence
    r"|\b(?:but|not|no|wait|hmm|oops|actually|instead|rather|correct\w*|simplif\w+|which|that is|i\.e|equals?"
    r"|equivalent\w*|same|so|thus|hence|therefore|then|giv\w+|yields?|becomes?|means?|answers?|results?|final\w*"
    r"|because|since|as|where|from|approx\w*|rounded)\b",
    re.IGNORECASE,
)
_LINKED = re.compile(rf"(?:{_SPACE}|\\text\s*\{{|,|;|\band\b|\bor\b)*+", re.IGNORECASE)
_MOST_BETWEEN = 200


def box_lists(text: str) -> Iterator[Box]:
    r"""Boxes, those of one sentence as one list: ``\boxed{2} and \boxed{9}`` hold ``2, 9``.

    A box replaces the one before it in another sentence or line, after ``=`` or an arrow, and after words that correct
    or conclude ("but", "so", "which is"). Equal ones count once, as the last of them is written.
    """
    group: list[Box] = []
    for box in boxes(text):
        if group and not (box[2] and group[-1][2] and _joined(text[group[-1][1] : box[0]])):
            yield _as_one(group)
            group = []
        group.append(box)
    if group:
        yield _as_one(group)


def _joined(between: str) -> bool:
    if len(between) > _MOST_BETWEEN or _STEP.match(between) or _REPLACED.search(between):
        return False
    lines = re.sub(r"\\\\\s*\n", " ", between)  # lines of one formula
    return "\n" not in lines or (_LINKED.fullmatch(lines) is not None and re.search(r",|;|and|or", lines) is not None)


def _as_one(group: list[Box]) -> Box:
    contents = {answer_key(content): content for _, _, content in group}
    return group[0][0], group[-1][1], ", ".join(contents.values())


def final_box(text: str) -> str | None:
    r"""What the last box holds, with the others of its sentence; ``""`` if it is empty or never closes, ``None`` if
    there is none."""
    last = deque(box_lists(text), maxlen=1)
    return last[0][2] if last else None
