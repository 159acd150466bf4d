"""Settings: frozen, checked in one line, flat for users, grouped in Python, the same after every round trip."""

from __future__ import annotations

import json
import pickle
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest

from lengthwise.config.commands.evaluation import EvaluateSettings, GradeSettings
from lengthwise.config.definition import again, group, setting
from lengthwise.config.failures import SettingError
from lengthwise.config.settings import Settings
from lengthwise.errors import ConfigError


class Color(Enum):
    RED = "red"


class Inner(Settings):
    panel = "Training"
    steps: int = setting(3, ge=1, help="Steps.")
    rate: float = setting(0.1, gt=0, le=1, help="Rate.")
    seed: int | None = setting(None, ge=0, help="Seed.")


class Outer(Settings):
    name: str = setting(help="A name.")
    cap: int | Literal["auto"] = setting("auto", ge=1, help="Cap.", refusal="a response has at least 1 token")
    shares: tuple[float, ...] = setting((0.5,), commas=True, ge=0, lt=1, help="Shares.")
    words: tuple[str, ...] = setting((), help="Words.")
    kind: Literal["a", "b", "c"] = setting("a", help="Kind.")
    place: Path | None = setting(None, help="Place.")
    lambda_: bool = setting(False, help="A word of Python's.")
    steps_twice: int = again(Inner, "steps", 6, help="Steps again.")
    inner: Inner = group(Inner)

    def check(self) -> None:
        super().check()
        if self.name == "wrong":
            raise ConfigError("name is wrong; that is not right")


def refusal(**given: object) -> str:
    with pytest.raises(ConfigError) as caught:
        Outer.from_dict({"name": "x", **given})
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_is_out_of_bounds_is_named_with_the_way_out():
    assert refusal(steps=0) == "steps is 0; give at least 1"
    assert refusal(cap=0) == "cap is 0; a response has at least 1 token"
    assert refusal(rate=2.0) == "rate is 2.0; give a number above 0 and up to 1"
    assert refusal(rate=0) == "rate is 0.0; give a number above 0 and up to 1"
    assert refusal(shares=[0.1, 1.0]) == "shares is 1.0; give a number from 0 to below 1"
    assert refusal(rate=float("nan")) == "rate is nan; give a finite number"


def test_a_wrong_type_is_named_with_the_value_and_what_is_wanted():
    assert refusal(steps="3") == "steps is '3'; give a whole number"
    assert refusal(steps=True) == "steps is True; give a whole number"
    assert refusal(steps=3.0) == "steps is 3.0; give a whole number"
    assert refusal(steps=None) == "steps is None; give a whole number"
    assert refusal(rate="fast") == "rate is 'fast'; give a number"
    assert refusal(lambda_=1) == "lambda is 1; give true or false"
    assert refusal(cap="much") == "cap is 'much'; give a whole number or one of auto"
    assert refusal(kind="d") == "kind is 'd'; choose one of a, b, c"
    assert refusal(shares="0.1,x") == "shares is [0.1, 'x']; give numbers with commas between them"
    assert refusal(words=3) == "words is 3; give texts, as a list"
    assert refusal(place=3) == "place is 3; give a path"


def test_an_unknown_name_is_told_the_nearest_and_all():
    assert refusal(stesp=3) == (
        "stesp is no setting of Outer; did you mean steps? It has name, cap, shares, words, kind, place, lambda, "
        "steps_twice, steps, rate, seed"
    )
    assert "did you mean" not in refusal(zzz=3)
    with pytest.raises(ConfigError, match="stesp is no setting of Inner; did you mean steps"):
        Inner(stesp=3)


def test_what_has_to_be_given_says_what_it_is():
    with pytest.raises(SettingError, match=r"^name is not given; give --name \(A name\)$") as caught:
        Outer.from_dict({})
    assert caught.value.name == "name"


def test_a_check_of_a_class_comes_through_in_its_own_words():
    assert refusal(name="wrong") == "name is wrong; that is not right"
    with pytest.raises(ConfigError, match="^name is wrong; that is not right$"):
        Outer(name="wrong")
    with pytest.raises(ConfigError, match="^steps is 0; give at least 1$"):
        Outer(name="x", inner={"steps": 0})


def test_groups_may_be_given_flat_as_tables_or_as_values():
    flat = Outer.from_dict({"name": "x", "steps": 7})
    assert flat == Outer.from_dict({"name": "x", "inner": {"steps": 7}}) == Outer(name="x", inner=Inner(steps=7))
    assert flat == Outer.from_dict({"name": "x", "inner": Inner(steps=7)})
    assert refusal(inner={"steps": 7}, steps=7) == (
        "steps is given twice, by itself and in a group; leave one of them out"
    )
    assert "it is a group" in refusal(inner=7)
    assert "no part of" in refusal(inner={"kind": "a"})


def test_texts_of_flags_and_files_become_the_types_of_the_fields():
    found = Outer.from_dict({"name": "x", "cap": "512", "shares": "0.1, 0.2", "words": "one", "place": "a/b"})
    assert (found.cap, found.shares, found.words, found.place) == (512, (0.1, 0.2), ("one",), Path("a/b"))
    assert Outer.from_dict({"name": "x", "rate": 1}).inner.rate == 1.0


def test_settings_are_frozen_and_replace_checks_again():
    found = Outer.from_dict({"name": "x"})
    for attribute in ("name", "inner", "other"):
        with pytest.raises(ValueError, match="frozen"):
            setattr(found, attribute, 1)
    changed = found.replace(steps=9, lambda_=True, kind="b")
    assert (changed.inner.steps, changed.lambda_, changed.kind, found.inner.steps) == (9, True, "b", 3)
    assert changed.changed() == {"name": "x", "kind": "b", "lambda": True, "steps": 9}
    assert found.replace(inner=Inner(rate=0.5)).inner.rate == 0.5
    with pytest.raises(ConfigError, match="steps is 0"):
        found.replace(steps=0)
    with pytest.raises(ConfigError, match="stpes is no setting"):
        found.replace(stpes=3)


@pytest.mark.parametrize("rate", [0.1 + 0.2, 1e-300, 1 / 3, 5e-324])
def test_a_round_trip_keeps_every_bit(rate):
    found = Outer.from_dict({"name": "ä\n", "rate": rate, "shares": [rate / 3], "place": "p", "words": ["a", "b"]})
    again_ = Outer.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again_ == found
    assert hash(again_) == hash(found)
    assert pickle.loads(pickle.dumps(found)) == found
    assert again_.inner.rate.hex() == rate.hex()


def test_an_enum_is_a_value_too():
    class Colored(Settings):
        color: Color = setting(Color.RED, help="Color.")

    assert Colored().to_dict() == {"color": "red"}
    assert Colored.from_dict({"color": "red"}) == Colored()


def test_the_same_name_twice_in_one_class_is_a_developers_error():
    class Both(Settings):
        steps: int = setting(1, help="Steps.")
        inner: Inner = group(Inner)

    with pytest.raises(TypeError, match="Both has steps twice"):
        Both.entries()


def test_an_error_about_a_setting_pickles():
    error = pickle.loads(pickle.dumps(SettingError("steps is 0", "steps")))
    assert (str(error), error.name) == ("steps is 0", "steps")


def test_a_path_is_taken_where_a_text_is_wanted_too() -> None:
    given = {"model": Path("models/m"), "data": Path("d.jsonl"), "out": Path("o")}
    settings = EvaluateSettings.from_dict(given)
    assert (settings.model, settings.data, settings.out) == ("models/m", "d.jsonl", Path("o"))
    assert GradeSettings.from_dict({"log": [Path("a"), "b"]}).log == ("a", "b")
    assert GradeSettings.from_dict({"log": Path("a")}).log == ("a",)
