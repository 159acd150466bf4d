"""Qasper's recipe: the checks of lm-infinite.md section 11."""

from __future__ import annotations

import pytest

from lengthwise.context.tasks.token_f1 import cut_centre, token_f1
from lengthwise.errors import ConfigError, InputError


@pytest.mark.parametrize(
    ("answer", "references", "wanted"),
    [
        # Words {cat, sat} against {cat, sat, down}: 2 * 2 / (2 + 3) = 0.8.
        ("The cat sat", ["cat sat down"], 80.0),
        ("a", ["the"], 0.0),  # no words are left on either side
        ("Yes!", ["no", "yes"], 100.0),
        # Multisets: {no, no} against {no}: 2 * 1 / (2 + 1).
        ("no, no", ["No."], 200 / 3),
        ("", ["yes"], 0.0),
        ("x-ray", ["xray"], 100.0),
    ],
)
def test_lm_infinite_11_f1_checks(answer, references, wanted):
    assert token_f1(answer, references) == pytest.approx(wanted)


def test_lm_infinite_11_the_input_is_cut_in_the_centre():
    assert cut_centre(list(range(10)), 4) == [0, 1, 8, 9]
    assert cut_centre(list(range(10)), 5) == [0, 1, 7, 8, 9]
    assert cut_centre("abc", 3) == ["a", "b", "c"]
    assert len(cut_centre(range(10_000))) == 6144


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="references is empty"):
        token_f1("x", [])
    with pytest.raises(ConfigError, match="most is 1"):
        cut_centre("abc", 1)
