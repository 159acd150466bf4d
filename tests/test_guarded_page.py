"""Verdicts of the guarded study's page on made-up runs: the registered rule decides."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RULES = {"levels": [50, 10], "margin_points": 2.0}
EFFECT = {"id": "x", "kind": "full", "better": "ours", "worse": "theirs"}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("guarded_page", ROOT / "scripts" / "guarded_page.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.setattr(made, "RESULTS", tmp_path)
    return made


def point(harm: float, accuracy: float, **knob: float) -> dict[str, Any]:
    return {"harm": {"percent": harm}, "accuracy": {"percent": accuracy}, **knob}


def write(folder: Path, ours: list[float], *, harm: float = 50, stages: tuple[float, ...] = (100, 0, 100)) -> None:
    """One run a seed: at harm 50 "theirs" keeps 60, "ours" what is given."""
    names = ("able", "aligned", "attacked")
    for seed, accuracy in enumerate(ours):
        run = {
            "stages": {name: point(harm, 100) for name, harm in zip(names, stages, strict=True)},
            "arms": {"ours": [point(harm, accuracy, fraction=0.1)], "theirs": [point(50, 60, fraction=0.2)]},
        }
        (folder / f"full-{seed}.json").write_text(json.dumps(run))


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
def test_comparisons(page: ModuleType, tmp_path: Path, ours: list[float], verdict: str, shown: str) -> None:
    write(tmp_path, ours)
    assert page.verdict(EFFECT, RULES) == (verdict, shown)


def test_sides_that_share_no_level_of_harm(page: ModuleType, tmp_path: Path) -> None:
    # "ours" never falls below 80, so it has no accuracy at 50
    write(tmp_path, [90, 90, 90], harm=80)
    assert page.verdict(EFFECT, RULES) == ("not comparable", "3 of 3 seeds share no level of harm")


@pytest.mark.parametrize(
    ("stages", "verdict"), [((100, 0, 100), "seen"), ((89, 0, 100), "not seen"), ((100, 11, 100), "not seen"),
                            ((100, 0, 49), "not seen"), ((90, 10, 50), "seen")],
)  # fmt: skip
def test_antidote_11_acceptance(page: ModuleType, tmp_path: Path, stages: tuple[float, ...], verdict: str) -> None:
    write(tmp_path, [60, 60, 60], stages=stages)
    assert page.verdict({"id": "acceptance-full", "kind": "full"}, RULES)[0] == verdict


def test_draws_are_curves_of_their_own(page: ModuleType) -> None:
    run = {
        "stages": {"attacked": point(100, 100)},
        "arms": {"random": [point(50, 40, fraction=0.1, draw=0), point(0, 0, fraction=0.1, draw=1)]},
    }
    # draw 0 stands at (50, 40); draw 1 goes straight from (100, 100) to (0, 0): 50 at 50
    assert page.at_harm(run, "random", 50) == 45
