"""Short versions of the harnesses for bad input, load and security."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from reliability import bad_input_expressions, load_runs, security_escapes
from reliability import bad_input_logs as logs
from reliability import bad_input_pages as pages
from reliability import bad_input_settings as settings
from reliability import bad_input_tokenizers as tokenizers
from reliability import bad_input_weights as weights
from reliability._batches import Case, Make, one
from reliability._harness import Ask
from reliability._pages import Page

CASES = [(settings.make, 40), (weights.make, 40), (logs.make, 20), (pages.make, 4), (tokenizers.make, 10)]


@pytest.mark.parametrize(("make", "cases"), CASES, ids=["settings", "weights", "logs", "pages", "tokenizers"])
def test_bad_input_ends_in_a_line(make: Make, cases: int, tmp_path: Path) -> None:
    assert [failure for number in range(cases) for failure in one(make, 0, number, tmp_path)] == []


def test_what_must_not_happen_is_noticed(tmp_path: Path) -> None:
    acts = {"traceback": lambda: [][0], "outside": Path("in/new").touch, "": Path("out/new").touch}
    for kind, act in acts.items():
        found = one(lambda *_, act=act: Case("x", act), 0, 0, tmp_path)
        assert [failure.kind for failure in found] == ([kind] if kind else [])


def test_expressions_get_a_verdict_each(tmp_path: Path) -> None:
    found = bad_input_expressions.bad_expressions(Ask(0, tmp_path, 150))
    assert (found.cases, found.failures) == (150, ())


def test_every_request_comes_once(tmp_path: Path) -> None:
    found = load_runs.load_endpoint(Ask(0, tmp_path, 100))
    assert [line for line in found.failures if "memory" not in line] == []


def test_one_of_two_commands_runs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_runs.load_two(Ask(0, tmp_path, 2)).failures == ()


def test_nothing_gets_out_of_the_grader(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(security_escapes, "TEXTS", security_escapes.TEXTS[:25])
    monkeypatch.chdir(tmp_path)
    assert list(security_escapes.of_texts(tmp_path, 50)) == []


def test_a_page_that_asks_or_runs_something_is_noticed() -> None:
    bad = ["<img src=http://x>", "<link href=//x>", "<fuzzmark>", "<b onclick=fuzzmark()>", "<script>fuzzmark</script>"]
    assert Counter(bool(Page(text).problems) for text in bad) == {True: len(bad)}
    assert Page('<a href="https://x">&lt;fuzzmark&gt;</a><svg><use href="#a"/></svg>').problems == []
