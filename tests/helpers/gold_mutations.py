"""Ways to make a right answer wrong, one small change each; None where a way does not apply."""

from __future__ import annotations

import re
from collections.abc import Callable

_OTHER_UNITS = (
    (r"\\circ", r"\\text{ radians}"), (r"degrees", "radians"), (r"inches", "feet"), (r"cents", "dollars"),
    (r"\bcm\b", "m"), (r"\\\$", "£"),
)  # fmt: skip


def turned_sign(text: str) -> str:
    return text[1:] if text.startswith("-") else f"-{text}"


def last_number_plus_one(text: str) -> str | None:
    found = list(re.finditer(r"\d+", text))
    if not found:
        return None
    last = found[-1]
    return text[: last.start()] + str(int(last[0]) + 1).zfill(len(last[0])) + text[last.end() :]


def without_last_entry(text: str) -> str | None:
    """The list that the last comma stands in, without what is behind it; thousands are no list."""
    commas = [m.start() for m in re.finditer(r",(?!(?:\\!)?\s?\d{3}(?!\d))", text)]
    if not commas:
        return None
    depth, end = 0, commas[-1]
    while end < len(text) and depth >= 0:
        depth += (text[end] in "([{") - (text[end] in ")]}")
        end += depth >= 0
    if text[:end].rstrip().endswith(("\\", "\\right")):
        end = text.rindex("\\", 0, end)
    return text[: commas[-1]] + text[end:]


def other_unit(text: str) -> str | None:
    for unit, other in _OTHER_UNITS:
        if re.search(unit, text):
            return re.sub(unit, other, text).replace("^\\text", "\\text")
    return None


MUTATIONS: dict[str, Callable[[str], str | None]] = {
    "sign turned": turned_sign,
    "last number plus one": last_number_plus_one,
    "last entry dropped": without_last_entry,
    "unit changed": other_unit,
}
