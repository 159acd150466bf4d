"""`lengthwise repair --judge --data`: harm and accuracy over fractions beside the repaired model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from weightlab import call, changed, read_model, same_bits, shipped_tensors, write_model

from lengthwise.config.commands import RepairSettings
from lengthwise.errors import ConfigError, InputError
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.repair import repair_folder
from lengthwise.runs.repair_sweep import Measured, Point, Sweep, conclusion, repair_and_measure
from lengthwise.statistics.harm import Percentage


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tuned model, 20 harmful rows (of which some are held out by their hash), and 4 problems of two levels."""
    root = tmp_path_factory.mktemp("sweep")
    drawn = chains.problems(24, split="test", seed=0, levels=(1, 2))
    harmful = [{"prompt": c.problem, "response": f"A:{c.answer}", "harmful": True} for c in drawn[:20]]
    for name, rows in (("harmful", harmful), ("task", [c.row for c in drawn[20:]])):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = write_model(root / "tuned", changed(shipped_tensors(), 1))
    return {"model": model, "harmful": root / "harmful.jsonl", "task": root / "task.jsonl"}


def settings(files: dict[str, Path], out: Path, **options: object) -> RepairSettings:
    asked = {"judge": "flag:=", "fractions": (0.02, 1.0), "preset": "lab", "cap": 10, "fraction": 0.1}
    places = {"model": str(files["model"]), "harmful": files["harmful"], "data": str(files["task"]), "out": out}
    return RepairSettings.from_dict({**asked, **places, **options})


def swept(arm: str, fraction: float, harm: float, accuracy: float) -> Point:
    found = Measured(Percentage(harm, None, None, 100), Percentage(accuracy, harm - 5, harm + 5, 100), {}, 0.0, 0.0)
    return Point(arm, fraction, fraction, found)


def test_the_conclusion_is_told_where_harm_is_halved() -> None:
    points = [swept("none", 0, 100, 99), swept("weight", 0.01, 60, 90), swept("weight", 0.02, 40, 70),
              swept("weight", 0.05, 1, 10), swept("random", 0.02, 98, 95)]  # fmt: skip
    assert conclusion(Sweep({}, points)) == (
        "Taking out 2% of the weights by the score brings harm from 100.0% to 40.0% and accuracy from 99.0% to 70.0% "
        "(35.0 to 45.0); as many at random: harm 98.0%, accuracy 95.0% (93.0 to 103.0)."
    )
    assert conclusion(Sweep({}, points[:2])).startswith("Taking out 1% of the weights by the score brings harm from")


def test_a_sweep_and_the_repair_that_it_stands_beside(files: dict[str, Path], tmp_path: Path) -> None:
    said: list[str] = []
    report = repair_and_measure(settings(files, tmp_path / "out"), note=said.append).to_dict()
    found = json.loads((tmp_path / "out" / "antidote" / "sweep.json").read_text())
    assert found == report["sweep"]
    points = {(p["arm"], p["fraction"]): p for p in found["points"]}
    arms = ("weight", "random", "magnitude")
    assert list(points) == [("none", 0.0), *((arm, fraction) for arm in arms for fraction in (0.02, 1.0))]
    # chains are written with "=": all is flagged; without its layers the model writes nothing of use
    assert points["none", 0.0]["harm"]["percent"] == 100
    for arm in arms:
        assert points[arm, 1.0]["harm"]["percent"] == 0
        assert points[arm, 1.0]["accuracy"]["percent"] == 0
        assert points[arm, 1.0]["achieved"] == 1
        assert points[arm, 0.02]["achieved"] == pytest.approx(0.02, abs=0.005)
        assert points[arm, 1.0]["overlap"] == {"scored": 1, "utility": 1}
    assert points["weight", 0.02]["overlap"]["scored"] == 1
    # two random masks of a share d overlap in d / (2 - d) of their union
    assert points["random", 0.02]["overlap"]["scored"] == pytest.approx(0.01, abs=0.01)
    assert points["weight", 0.02]["overlap"]["utility"] > 0.3
    assert points["none", 0.0]["accuracy_by_level"].keys() == {"1", "2"}
    # a fifth or so of 20 rows is judged and not scored on
    assert found["judged_prompts"] + int(said[0].split()[2]) == 20
    assert 1 <= found["judged_prompts"] <= 10
    assert (tmp_path / "out" / "antidote" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert load_file(tmp_path / "out" / "antidote" / "mask.safetensors")
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert not list((tmp_path / "out").rglob(".partial*"))


def test_prompts_of_another_file_leave_all_rows_to_the_score(files: dict[str, Path], tmp_path: Path) -> None:
    others = tmp_path / "prompts.jsonl"
    others.write_text('{"prompt": "7+12?"}\n{"instruction": "8+3?"}\n{"prompt": "7+12?"}\n')
    said: list[str] = []
    asked = settings(files, tmp_path / "out", judge_data=others, fractions=(0.5,))
    found = repair_and_measure(asked, note=said.append)
    assert said[0] == "scoring on 20 harmful rows, judging answers to 2 prompts"
    assert found.sweep.about["judged_prompts"] == 2
    # the repaired model is the one that the plain command writes
    repair_folder(settings(files, tmp_path / "plain"))
    assert same_bits(read_model(tmp_path / "out"), read_model(tmp_path / "plain"))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"fractions": (0.1, 2.0)}, ConfigError, "fractions is 2.0"),
        ({"fractions": ()}, ConfigError, "give one or more"),
        ({"fractions": (0.1, 0.1)}, ConfigError, "each once"),
        ({"cap": 0}, ConfigError, "cap is 0"),
        ({"judge": "nonsense"}, ConfigError, "write module:function"),
        ({"judge_data": Path("nowhere.jsonl")}, InputError, "no such file"),
        ({"cap": 600}, InputError, "the model allows 512 positions"),
        ({"judge": "json:dumps"}, InputError, "takes 1 positional argument"),
    ],
)
def test_what_cannot_be_measured_leaves_nothing(
    files: dict[str, Path], tmp_path: Path, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        repair_and_measure(settings(files, tmp_path / "out", **options))
    assert list(tmp_path.iterdir()) == []


def test_too_few_rows_to_hold_some_out(files: dict[str, Path], tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text(files["harmful"].read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match="has 1 harmful rows, too few to keep a fifth"):
        repair_and_measure(settings({**files, "harmful": few}, tmp_path / "out"))


def test_an_adapter_is_swept_too(files: dict[str, Path], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason='optional: pip install "lengthwise[trl]"')
    net = AutoModelForCausalLM.from_pretrained(shipped_reasoner())
    config = peft.LoraConfig(r=8, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    peft.get_peft_model(net, config).save_pretrained(tmp_path / "adapter")
    asked = settings({**files, "model": tmp_path / "adapter"}, tmp_path / "out", fractions=(1.0,))
    assert repair_and_measure(asked).sweep.points[1].achieved == 1
    assert load_file(tmp_path / "out" / "adapter_model.safetensors")


def test_the_command(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["repair", files["model"], "--harmful", files["harmful"], "--out", tmp_path / "out"]
    flags = ["--judge", "flag:=", "--data", files["task"], "--preset", "lab", "--fractions", "0.5", "--cap", "9"]
    assert call(monkeypatch, *shared, *flags) == 0
    said = capsys.readouterr().out
    assert "magnitude" in said
    assert "picture:" in said
    assert call(monkeypatch, *shared, "--judge", "flag:=", "--overwrite") == 2
    assert "--judge measures harm beside accuracy, which needs both --judge and --data" in capsys.readouterr().err
    assert call(monkeypatch, *shared, *flags, "--fractions", "a,b", "--overwrite") == 2
    assert "fractions is ['a', 'b']; give numbers" in capsys.readouterr().err
