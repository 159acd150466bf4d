"""A method describes itself: fields with bounds and help, knob, engines; a new one is found by its file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lengthwise.cli import main
from lengthwise.errors import ConfigError
from lengthwise.lab import chains
from lengthwise.methods import METHODS, build_method, find_methods, papers, read_option
from lengthwise.methods.description import describe

OPTIONS = [(name, option) for name, method in METHODS.items() for option in method.options]
BOUNDED = [
    (name, option, bound, step)
    for name, option in OPTIONS
    for facts in [METHODS[name].kind.entries()[option].facts]
    for bound, step in ((facts.ge, -1), (facts.gt, 0), (facts.le, 1), (facts.lt, 0))
    if bound is not None
]
NEW = '''
"""A price that doubles beyond half the cap. Ours: no paper."""

from lengthwise.config.definition import setting
from lengthwise.methods import Knob, declare
from lengthwise.methods._parts import GroupRelative, Targeted, group_relative


class SteepPriceOptions(Targeted, GroupRelative):
    """Options of the steep price."""

    price: float = setting(1e-3, ge=0, help="Price of a token.")


@declare(
    "steep-price",
    SteepPriceOptions,
    paper="ours, no paper",
    summary="a price that doubles beyond a target",
    knob=Knob("price", ("0.1/L", "0.3/L", "1/L")),
    one_cap="its target is a part of one cap",
)
def steep_price(options):
    """Correctness less a price per token, twice the price beyond the target."""
    def reward(r, state):
        beyond = (r.num_tokens - options.target).clamp(min=0)
        return r.correct.float() - options.price * (r.num_tokens + beyond)

    return group_relative(options, reward=reward)
'''


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_has_one_line_of_help_and_a_default(name: str, option: str) -> None:
    said = METHODS[name].options[option]
    assert said.help.endswith(".") and "\n" not in said.help
    assert option == "cap" or said.default is not None or said.default_text or "none" in said.type


@pytest.mark.parametrize(("name", "option", "bound", "step"), BOUNDED)
def test_every_bound_is_held_and_named(name: str, option: str, bound: float, step: int) -> None:
    with pytest.raises(ConfigError, match=rf"^{option} is -?[\d.e-]+; "):
        build_method(name, **{"cap": 9, option: bound + step})


def test_methods_come_before_baselines_and_those_of_one_file_stand_together() -> None:
    names = list(METHODS)
    assert names[:5] == ["ada-r1", "adaptive", "crisp", "dler", "da-dler"]
    assert all(not METHODS[name].baseline for name in names[: names.index("ppo") + 1])
    assert names.index("laser-de") == names.index("laser") + 2


def test_all_that_a_method_says_is_one_value() -> None:
    found = describe("drpo")
    assert found.no_importance_weights == "its loss takes no advantages, which they multiply"
    assert found.no_moving_cap is None and found.trains and found.knob is not None and found.knob.option == "lam"
    assert found.options["lam"].bounds == "above 0" and "cap" not in found.options
    assert describe("laser-d").no_moving_cap == "its targets are chosen from a set that is sampled under one fixed cap"
    assert describe("ada-r1").no_moving_cap == "it has no training loop" and not describe("ada-r1").trains
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_an_endless_lam_is_sent_to_disco() -> None:
    with pytest.raises(ConfigError, match="lam is inf, which is DisCO; take the method disco"):
        build_method("drpo", cap=9, lam=math.inf)


def test_the_command_says_all_of_one_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["methods", "da-dler"])
    said = capsys.readouterr().out
    for words in (
        "easy_cap=(half the cap)", "(0 to 1)", "knob that compare sweeps  cap: 0.6L", "importance weights  yes",
        "moving cap  no: its easy target is a part of one fixed cap", "in trl  loss, groups drawn again, KL",
    ):  # fmt: skip
        assert words in said
    with pytest.raises(SystemExit, match="0"):
        main(["methods", "crisp"])
    assert r"instruction_sep='\n\n'" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["methods", "da-dler", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["options"]["threshold"] == {
        "type": "float", "default": 0.5, "default_text": None, "bounds": "0 to 1",
        "help": "Share of right answers above which a prompt is easy.",
    }  # fmt: skip
    assert found["knob"]["values"] == ["0.6L", "0.4L", "0.8L", "0.3L"] and not found["moving_cap"]
    with pytest.raises(SystemExit, match="2"):
        main(["methods", "drop"])
    assert "did you mean drpo" in capsys.readouterr().err


def test_a_file_is_all_that_a_new_method_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "steep_price_of_a_test.py").write_text(NEW)
    monkeypatch.setattr(papers, "__path__", [*papers.__path__, str(folder)])
    found = find_methods(papers.__name__, papers.__path__)
    assert found.keys() - METHODS.keys() == {"steep-price"}
    monkeypatch.setitem(METHODS, "steep-price", found["steep-price"])
    data = tmp_path / "train.jsonl"
    rows = [chain.row for chain in chains.problems(60, split="train", seed=0, levels=(2, 3))]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--data", str(data), "--method", "steep-price", "--cap", "40", "--option", "price=0.01"]
    said = {}
    for command in (
        ["methods"],
        ["methods", "steep-price", "--json"],
        ["shorten", "lab:chains", *given, "--preset", "lab", "--out", str(tmp_path / "s"), "--dry-run", "--json"],
        ["compare", "lab:chains", "--methods", "steep-price", "--sweep", "steep-price:price=0.2/L,1/L", "--out",
         str(tmp_path / "c"), "--dry-run", "--json"],
        ["export", "trl", "lab:chains", *given, "--preset", "lab", "--out", str(tmp_path / "e"), "--json"],
    ):  # fmt: skip
        with pytest.raises(SystemExit, match="0"):
            main(command)
        said[" ".join(command[:2])] = capsys.readouterr().out
    assert "steep-price  a price that doubles beyond a target" in said["methods"]
    assert json.loads(said["methods steep-price"])["options"]["price"]["bounds"] == "at least 0"
    assert json.loads(said["shorten lab:chains"])["options"] == {"price": 0.01}
    (arm,) = json.loads(said["compare lab:chains"])["arms"]
    assert (arm["knob"], arm["values"]) == ("price", ["0.2/L", "1/L"])
    assert "steep-price" in (tmp_path / "e" / "train.py").read_text()
    assert read_option("steep-price", "target", "7") == 7
