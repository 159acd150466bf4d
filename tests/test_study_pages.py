"""Verdicts of the studies' pages on made-up results: what is registered decides, not the wish."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def ada() -> ModuleType:
    return module("ada_r1_page")


def runs(right: str, tokens: list[int], one_pass: str = "1100") -> list[dict[str, Any]]:
    how = {"right": right, "tokens": tokens, "one_pass": one_pass}
    return [{"levels": [2, 2, 7, 7], "measured": how} for _ in range(3)]


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
def test_half_the_tokens_at_kept_accuracy(ada: ModuleType, mine: str, tokens: list[int], said: str) -> None:
    found = {"a": runs(mine, tokens), "b": runs("1111", [20, 20, 60, 60])}
    assert ada.verdict(HALF, found)[0] == said


def test_style_by_level(ada: ModuleType) -> None:
    effect = {"kind": "style", "arm": "a", "least": 10.0}
    assert ada.verdict(effect, {"a": runs("1111", [1] * 4, "1100")})[0] == "seen"
    assert ada.verdict(effect, {"a": runs("1111", [1] * 4, "1110")})[1].startswith("+50.0 points")
    assert ada.verdict(effect, {"a": runs("1111", [1] * 4, "0011")})[0] == "not seen"


def test_averages_are_over_all_sets(ada: ModuleType) -> None:
    """Level 2: 10 / 20, level 7: 60 / 60, so -50 % and 0 %: their mean is -25 %, though tokens fell by 12.5 %."""
    found = ada.average_change(runs("1111", [10, 10, 60, 60]), runs("1111", [20, 20, 60, 60]), ada.tokens)
    assert found == pytest.approx(-25.0)


@pytest.fixture
def back() -> ModuleType:
    return module("merge_back_page")


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
def test_merges_against_the_line(back: ModuleType, merged: float, effect: dict[str, Any], value: float) -> None:
    assert back.measured(grid(merged=merged), {**effect, "temperature": "0.6"}) == pytest.approx(value)


def test_every_seed_must_point_the_registered_way(back: ModuleType) -> None:
    effect = {"id": "gives-back", "temperature": "0.6", "margin": 0.0}
    better, worse = grid(merged=0.95), grid(merged=0.88)
    assert back.verdict(effect, [better, better, better])[0] == "seen"
    assert back.verdict(effect, [better, better, worse])[0] == "not seen"
    assert "(+5.0, +5.0, -2.0)" in back.verdict(effect, [better, better, worse])[1]


def test_every_registered_effect_has_a_rule(ada: ModuleType, back: ModuleType) -> None:
    for effect in json.loads(back.REGISTERED.read_text())["effects"]:
        assert effect["id"] in back.UNITS
    for effect in json.loads(ada.REGISTERED.read_text())["effects"]:
        assert {effect["arm"], effect.get("against", "long")} <= ada.ARMS.keys()
