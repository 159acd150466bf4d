"""Studies: what is registered decides, not the wish; pages are what summaries give; summaries stay small."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page as benchmarks
from studies import summary
from studies.ada_r1 import condense as ada_condense
from studies.ada_r1 import page as ada
from studies.figures import is_stale, write
from studies.guarded import page as guarded
from studies.merge_back import page as back
from studies.page import DOCS, IMAGES, Claim, Section, Table, claims_table, claims_tables, page_of, text_of

REGISTERED = [study for study in summary.STUDIES if summary.plan_of(study).is_file()]

# ------------------------------------------------------------------------------------------------ all studies


@pytest.mark.parametrize("study", summary.STUDIES)
def test_page_is_what_the_summary_gives(study: str) -> None:
    assert (DOCS / page_of(study).file).read_text(encoding="utf-8") == text_of(study), "run python -m studies build"


def test_page_of_benchmarks_is_what_their_results_give() -> None:
    assert (DOCS / benchmarks.FILE).read_text(encoding="utf-8") == benchmarks.text(), "run python -m studies build"


def test_a_picture_says_what_it_shows(tmp_path: Path) -> None:
    [picture] = page_of("ada_r1").pictures
    found = summary.load("ada_r1")
    assert not is_stale(picture, found, IMAGES / picture.file), "run python -m studies build"
    write(picture, found, tmp_path / "new.png")
    assert not is_stale(picture, found, tmp_path / "new.png")
    other = dataclasses.replace(picture, draw=page_of("merge_back").pictures[0].draw)
    assert is_stale(dataclasses.replace(other, draw=lambda _: other.draw(summary.load("merge_back"))), found,
                    tmp_path / "new.png")  # fmt: skip
    assert is_stale(picture, found, tmp_path / "none.png")


def test_summaries_are_small() -> None:
    assert sum(summary.path_of(study).stat().st_size for study in summary.STUDIES) <= summary.LIMIT


@pytest.mark.parametrize("study", summary.STUDIES)
def test_summary_says_how_it_was_made_and_how_it_is_made_again(study: str) -> None:
    found = summary.load(study)
    for name in found.runs:
        assert {"command", "commit", "python", "torch", "transformers", "cores"} <= found.made_by(name).keys()
    text = summary.path_of(study).read_text(encoding="utf-8")
    assert f"python -m studies run {study}" in text and '"seeds": [0,1,2' in text


@pytest.mark.parametrize("study", REGISTERED)
def test_every_registered_effect_is_judged(study: str) -> None:
    found = summary.load(study)
    [effects] = (found.plan[name] for name in ("effects", "entries", "statements") if name in found.plan)
    claims = [claim for group in page_of(study).claims(found).values() for claim in group]
    assert len({claim.text for claim in claims}) == len({text(effect) for effect in listed(effects)})
    assert {claim.verdict for claim in claims} <= {"seen", "not seen", "not run", "not comparable", "the opposite"}


def listed(effects: Any) -> list[dict[str, Any]]:
    return effects if isinstance(effects, list) else [{"claim": text(effect)} for effect in effects.values()]


def text(effect: Any) -> str:
    if isinstance(effect, str):
        return effect
    return next(effect[name] for name in ("claim", "statement", "says", "name") if name in effect)


def test_reading_and_writing_a_summary_changes_nothing(tmp_path: Any) -> None:
    found = summary.load("giraffe")
    summary.write(found, tmp_path / "summary.json")
    assert (tmp_path / "summary.json").read_text() == summary.path_of("giraffe").read_text()


def test_columns_that_no_claim_fills_are_left_out() -> None:
    table = claims_table([Claim("a", "1", "seen"), Claim("b", "2", "not seen", wanted="3")])
    assert Section("T", [table]).lines()[2:4] == ["| registered | wanted | measured | verdict |", "|---|---|---|---|"]
    assert Table(("x",), [["1"]]).lines() == ["| x |", "|---|", "| 1 |"]


def test_effects_that_groups_share_are_told_once() -> None:
    groups = {f"arm {n}": [Claim("a", str(n), "seen", "above 0"), Claim("b", "not run", "not run")] for n in range(5)}
    few = dict(list(groups.items())[:2])
    [table] = claims_tables(few)
    assert isinstance(table, Table) and list(table.head) == ["registered", "arm 0", "arm 1"]
    assert list(table.rows) == [["a", "0: **seen**", "1: **seen**"], ["b", "**not run**", "**not run**"]]
    effects, table = claims_tables(groups)
    assert effects == "1. a (above 0)\n2. b" and isinstance(table, Table) and list(table.head) == ["", "1", "2"]
    assert list(table.rows)[4] == ["arm 4", "4: **seen**", "**not run**"]
    assert claims_tables({"one": groups["arm 0"], "two": [Claim("c", "1", "seen")]})[::2] == ["### one", "### two"]


@pytest.mark.parametrize("study", summary.STUDIES)
def test_every_page_has_the_same_form(study: str) -> None:
    page = text_of(study)
    heads = [line for line in page.splitlines() if line.startswith("## ")]
    wanted = ["## Registered effects", "## Seen and not seen"] * (study in REGISTERED) + ["## What came of it"]
    assert heads[: len(wanted)] == wanted and heads[-2:] == ["## Limits", "## Made by"]
    assert page.splitlines()[2].startswith("**"), "a page begins with its question"
    assert "not evidence about large models" in " ".join(page.split())


# ------------------------------------------------------------------------------------------------ Ada-R1


def arm(right: str, tokens: list[int], one_pass: str = "1100") -> list[dict[str, Any]]:
    """Three seeds of four answers, two at level 2 and two at level 7, as the summary keeps them."""
    raw = {"levels": [2, 2, 7, 7], "measured": {"right": right, "tokens": tokens, "one_pass": one_pass}}
    return [{"levels": ada_condense.by_level(raw), **raw["measured"]} for _ in range(3)]


HALF = {"kind": "pair", "arm": "a", "against": "b", "tokens_at_most": 0.5, "accuracy_low_at_least": -1.0}


@pytest.mark.parametrize(
    ("mine", "tokens", "said"),
    [
        # 40 of 80 tokens, nothing lost
        ("1111", [10, 10, 30, 30], "seen"),
        # 44 of 80
        ("1111", [10, 10, 30, 38], "not seen"),
        # half the tokens, one of four lost
        ("1110", [10, 10, 30, 30], "not seen"),
    ],
)
def test_half_the_tokens_at_kept_accuracy(mine: str, tokens: list[int], said: str) -> None:
    runs = {"a": arm(mine, tokens), "b": arm("1111", [20, 20, 60, 60])}
    raw = {name: [{"measured": run} for run in found] for name, found in runs.items()}
    differences = {"a less b": ada_condense.interval(raw["a"], raw["b"])}
    assert ada.judge(HALF, runs, differences)[0] == said


def test_style_by_level() -> None:
    effect = {"kind": "style", "arm": "a", "least": 10.0}
    assert ada.judge(effect, {"a": arm("1111", [1] * 4, "1100")}, {})[0] == "seen"
    assert ada.judge(effect, {"a": arm("1111", [1] * 4, "1110")}, {})[1].startswith("+50.0 points")
    assert ada.judge(effect, {"a": arm("1111", [1] * 4, "0011")}, {})[0] == "not seen"


def test_averages_are_over_all_sets() -> None:
    """Level 2: 10 / 20, level 7: 60 / 60, so -50 % and 0 %: their mean is -25 %, though tokens fell by 12.5 %."""
    found = ada.average_change(arm("1111", [10, 10, 60, 60]), arm("1111", [20, 20, 60, 60]), "tokens")
    assert found == pytest.approx(-25.0)


# ------------------------------------------------------------------------------------------------ merging back


def grid(**accuracy: float) -> dict[tuple[float, str, float], dict[str, Any]]:
    """Tokens 80, 60 and 40 at scales 0, 0.5 and 1 of the line; a merge at 50 tokens."""

    def at(tokens: float, right: float) -> dict[str, Any]:
        return {name: {"mean_tokens": tokens, "accuracy": right} for name in ("0.6", "1.0")}

    line = {(1.0, "interpolation", s): at(80 - 40 * s, 0.8 + 0.1 * s) for s in (0.0, 0.5, 1.0)}
    return {**line, (0.25, "global", 0.7): at(50, accuracy["merged"])}


@pytest.mark.parametrize(
    ("merged", "effect", "value"),
    [
        # the line at 50 tokens lies between .85 and .9: .875
        pytest.param(0.9, {"id": "top-interpolation", "densities": [0.25]}, 2.5, id="above-the-line"),
        pytest.param(0.85, {"id": "top-interpolation", "densities": [0.25]}, -2.5, id="below-the-line"),
        pytest.param(0.95, {"id": "gives-back"}, 5.0, id="against-dler"),
        pytest.param(0.9, {"id": "between"}, 10.0, id="between-the-lengths"),
    ],
)
def test_merges_against_the_line(merged: float, effect: dict[str, Any], value: float) -> None:
    assert back.measured(grid(merged=merged), {**effect, "temperature": "0.6"}) == pytest.approx(value)


def test_every_seed_must_point_the_registered_way() -> None:
    effect = {"id": "gives-back", "temperature": "0.6", "margin": 0.0}
    better, worse = grid(merged=0.95), grid(merged=0.88)
    assert back.judge(effect, [better, better, better])[0] == "seen"
    assert back.judge(effect, [better, better, worse])[0] == "not seen"
    assert "(+5.0, +5.0, -2.0)" in back.judge(effect, [better, better, worse])[1]


# ------------------------------------------------------------------------------------------------ the guarded model

RULES = {"levels": [50, 10], "margin_points": 2.0}
EFFECT = {"id": "x", "kind": "full", "better": "ours", "worse": "theirs"}


def point(harm: float, accuracy: float, **knob: float) -> dict[str, Any]:
    return {"harm": harm, "accuracy": accuracy, **knob}


def attacks(ours: list[float], *, harm: float = 50, stages: tuple[float, ...] = (100, 0, 100)) -> list[dict[str, Any]]:
    """One run a seed: at harm 50 "theirs" keeps 60, "ours" what is given."""
    names = ("able", "aligned", "attacked")
    return [
        {
            "stages": {name: point(harm, 100) for name, harm in zip(names, stages, strict=True)},
            "arms": {"ours": [point(harm, accuracy, fraction=0.1)], "theirs": [point(50, 60, fraction=0.2)]},
        }
        for accuracy in ours
    ]


@pytest.mark.parametrize(
    ("ours", "verdict", "shown"),
    [
        ([65, 64, 63], "seen", "+4.0 points (+5.0, +4.0, +3.0)"),
        ([61, 61, 62], "not seen", "+1.3 points (+1.0, +1.0, +2.0)"),  # below the margin of 2
        ([75, 75, 59], "not seen", "+9.7 points (+15.0, +15.0, -1.0)"),  # not in every seed
        ([50, 55, 59], "the opposite", "-5.3 points (-10.0, -5.0, -1.0)"),
        ([65, 65], "not run", "2 seeds"),
    ],
)
def test_comparisons_at_equal_harm(ours: list[float], verdict: str, shown: str) -> None:
    assert guarded.judge(EFFECT, RULES, attacks(ours)) == (verdict, shown)


def test_sides_that_share_no_level_of_harm() -> None:
    # "ours" never falls below 80, so it has no accuracy at 50
    found = guarded.judge(EFFECT, RULES, attacks([90, 90, 90], harm=80))
    assert found == ("not comparable", "3 of 3 seeds share no level of harm")


@pytest.mark.parametrize(
    ("stages", "verdict"), [((100, 0, 100), "seen"), ((89, 0, 100), "not seen"), ((100, 11, 100), "not seen"),
                            ((100, 0, 49), "not seen"), ((90, 10, 50), "seen")],
)  # fmt: skip
def test_antidote_11_acceptance(stages: tuple[float, ...], verdict: str) -> None:
    effect = {"id": "acceptance-full", "kind": "full"}
    assert guarded.judge(effect, RULES, attacks([60, 60, 60], stages=stages))[0] == verdict


def test_draws_are_curves_of_their_own() -> None:
    run = {
        "stages": {"attacked": point(100, 100)},
        "arms": {"random": [point(50, 40, fraction=0.1, draw=0), point(0, 0, fraction=0.1, draw=1)]},
    }
    # draw 0 stands at (50, 40); draw 1 goes straight from (100, 100) to (0, 0): 50 at 50
    assert guarded.at_harm(run, "random", 50) == 45


def test_a_summary_keeps_its_ratios_beside_parts_that_stand_side_by_side() -> None:
    alone, parts = benchmarks.flat_tables(
        {"ratio": 1.5, "seconds": {"ours": 1, "theirs": 2}, "peak": {"ours": 3, "theirs": 4}}
    )
    assert alone.rows == [("ratio", "1.5")]
    assert (parts.head, parts.rows) == (("what", "seconds", "peak"), [("ours", "1", "3"), ("theirs", "2", "4")])
