"""The table of methods, gates and what holds in docs/gates.md: run this file to write it anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.engine.gates import worst_gap
from lengthwise.errors import ConfigError
from lengthwise.methods import METHODS, build_method, options_of
from lengthwise.methods.description import describe
from lengthwise.objectives.gates import GATES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gates.md"
BEGIN, END = "<!-- methods: written by tests/methods/test_gates_page.py -->\n", "<!-- end of methods -->\n"
CAPS = (1_000, 16_000)


def table() -> str:
    rows = [
        "| method | wrong answers by length, in its formula | gate by default | gates offered | lowest right less "
        "highest wrong at cap 1,000 / 16,000: no gate | the same behind the gate `right` |",
        "|---|---|---|---|---|---|",
    ]
    rows += [_row(name) for name in METHODS if "gate" in options_of(name)]
    without = ", ".join(f"`{name}`" for name in METHODS if "gate" not in options_of(name))
    return "\n".join([*rows, "", f"No length term in the reward, so no gate: {without}."])


def _row(name: str) -> str:
    said = describe(name)
    offered = [kind for kind in GATES if _takes(name, kind)]
    return (
        f"| `{name}` | {said.wrong_by_length or 'not paid'} | {said.gate} | "
        f"{'all' if len(offered) == len(GATES) else ', '.join(offered)} | {_gaps(name, 'none')} | "
        f"{_gaps(name, 'right') if 'right' in offered else 'refused'} |"
    )


def _takes(name: str, kind: str) -> bool:
    try:
        build_method(name, cap=CAPS[0], gate=kind)
    except ConfigError:
        return False
    return True


def _gaps(name: str, kind: str) -> str:
    found = [worst_gap(build_method(name, cap=cap, gate=kind), cap) for cap in CAPS]
    return " / ".join(f"**{gap:.2f}**" if round(gap, 2) < 0 else f"{abs(gap):.2f}" for gap in found)


def with_table() -> str:
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"docs/gates.md lacks the lines {BEGIN!r} and {END!r}"
    return f"{before}{BEGIN}\n{table()}\n\n{END}{after}"


@pytest.mark.filterwarnings("ignore")
def test_the_page_s_table_is_what_the_methods_say() -> None:
    assert PAGE.read_text() == with_table(), "run python tests/methods/test_gates_page.py"


if __name__ == "__main__":
    PAGE.write_text(with_table())
