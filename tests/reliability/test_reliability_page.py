from __future__ import annotations

import pytest

from reliability import page
from reliability.__main__ import load_all
from reliability._harness import HARNESSES, RESULTS, Ask, Outcome, read


def test_the_page_is_made_from_the_results() -> None:
    load_all()
    assert page.main(check=True) == 0
    assert {path.stem for path in RESULTS.glob("*.json")} <= HARNESSES.keys()


def test_a_second_seed_adds_its_cases_and_a_seed_counts_once() -> None:
    one = Outcome("kills", "python ...", (0,), 3, ("a", "b"), (), "")
    both = one.joined(Outcome("kills", "python ...", (1,), 4, ("b",), ("c",), ""))
    assert (both.seeds, both.cases, both.mended, both.left) == ((0, 1), 7, ("a", "b"), ("c",))
    with pytest.raises(SystemExit, match="seed 1 is in the results"):
        both.joined(Outcome("kills", "python ...", (1,), 4, (), (), ""))


def test_a_case_can_be_made_again_by_itself(tmp_path) -> None:
    ask = Ask(7, tmp_path, 5)
    drawn = [ask.dice(number).random() for number in ask.numbers()]
    assert len(set(drawn)) == 5
    assert ask.dice(3).random() == drawn[3]
    assert list(Ask(7, tmp_path, 5, seconds=0.0).numbers()) == []


def test_summaries_are_read_as_they_were_written() -> None:
    for path in RESULTS.glob("*.json"):
        found = read(path)
        assert found.cases > 0 and found.seeds, path
