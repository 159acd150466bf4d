"""How much evaluation may write by default, that it is said first, what it is estimated at; the stop for circles."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from context_words import tiny_folder
from remote import change
from typer.testing import CliRunner

from lengthwise.cli import app, main
from lengthwise.config.commands import EvaluateSettings, ShortenSettings
from lengthwise.config.groups.sampling import Sampling
from lengthwise.engine.repeating import WINDOW
from lengthwise.errors import ConfigError, InputError, LengthwiseWarning
from lengthwise.pretrained import read_config
from lengthwise.runs.measuring import cap_words, room, usual_cap
from lengthwise.runs.resource_estimate import BYTES, machine_speed, measuring, parameter_counts
from lengthwise.runs.shortening.dry_run import dry_run
from lengthwise.runs.shortening.resolve import shorten_by
from lengthwise.statistics.records import Record, check_comparable


def test_the_usual_cap_is_what_a_user_expects():
    assert room(100, None) == 32_768 and room(100, 1000) == 900
    assert usual_cap(32_668) == 2048
    assert usual_cap(900) == 900  # a small model's room
    assert usual_cap(32_668, training=4000) == 32_000  # 8 * 4000
    assert usual_cap(32_668, training=48) == 512  # 8 * 48 = 384
    assert usual_cap(300, training=48) == 300


def test_the_cap_is_said_with_the_flag_that_raises_it():
    assert cap_words(2048, None, 32_668, "--cap") == (
        "at most 2,048 response tokens, the default (--cap raises it, up to 32,668)"
    )
    assert cap_words(900, None, 900, "--cap") == "at most 900 response tokens"  # nothing to raise
    assert cap_words(64, 64, 900, "--cap") == "at most 64 response tokens"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_folder(tmp_path_factory.mktemp("model") / "base")
    change(folder / "config.json", max_position_embeddings=8192)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps({"problem": f"{n}+1?", "answer": str(n + 1)}) + "\n" for n in range(4)))
    return path


def words(model: Path, data: Path, out: Path, *more: object) -> list[str]:
    return [str(word) for word in (model, "--data", data, "--preset", "lab", "--out", out, *more)]


def run(*given: object) -> Any:
    result = CliRunner().invoke(app, [str(word) for word in given])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_evaluate_says_its_cap_first(tmp_path, model, data):
    found = run("evaluate", *words(model, data, tmp_path / "a", "--cap", 4))
    assert found.stderr.splitlines()[0] == "sampling: 4 responses, at most 4 response tokens"


def test_evaluate_takes_the_usual_cap(tmp_path, model, data, monkeypatch):
    seen: list[Any] = []
    monkeypatch.setattr("lengthwise.runs.evaluation_plan.complete_all", lambda *a, **o: seen.append(a[2]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("evaluate", *words(model, data, tmp_path / "a"))
    assert seen[0].cap == 2048 and not seen[0].stop_repeats


def shown(model: Path, data: Path, out: Path, *more: object) -> dict[str, Any]:
    given = words(model, data, out, "--eval-data", data, "--dry-run", "--json", *more)
    return dict(json.loads(run("shorten", *given).stdout))


@pytest.mark.parametrize(("given", "cap"), [(["--cap", 48], 512), (["--cap", 700], 5600), ([], 2048)])
def test_a_dry_run_counts_what_measuring_takes(tmp_path, model, data, given, cap):
    found = shown(model, data, tmp_path / "run", *given, "--eval-samples", 3)
    measured = found["estimate"]["measuring"]
    # 4 problems, 3 samples and 1 greedy, before and after
    assert measured["responses"] == 2 * 4 * (3 + 1) and measured["tokens"] == 32 * cap
    assert f"at most {cap:,} response tokens, the default (--eval-cap raises it" in found["evaluation"]
    named = shown(model, data, tmp_path / "run", *given, "--eval-samples", 3, "--eval-cap", 6000)
    assert named["estimate"]["measuring"]["tokens"] == 32 * 6000
    assert named["estimate"]["total"] >= named["estimate"]["measuring"]["kv_cache"]


def test_a_dry_run_warns_of_a_method_that_could_pay_a_wrong_answer_more(tmp_path, model, data):
    asked = ShortenSettings.from_dict(
        {"model": str(model), "data": str(data), "out": tmp_path / "run", "eval_data": str(data), "cap": 48,
         "preset": "lab", "method": "linear-price", "option": ["price=0.1"]}
    )  # fmt: skip
    with pytest.warns(LengthwiseWarning, match="can pay a wrong answer"):
        dry_run(asked)


def test_the_time_of_measuring_is_bounded_by_reading_the_weights(model):
    config = read_config(model)
    count, speed = parameter_counts(config)[0], machine_speed(torch.device("cpu"), "float32")
    few, many = (measuring(config, [rows], cap=100, prompt_tokens=10, dtype="float32") for rows in (1, 3000))
    assert few.seconds == pytest.approx(max(2 * count * 100 / speed[0], 100 * count * BYTES["float32"] / speed[1]))
    assert many.tokens == 300_000 and many.seconds > few.seconds
    # 2 layers, keys and values of 2 heads of 8 in float32: 256 bytes a token; at most 1,024 rows at once
    assert (few.kv_cache, many.kv_cache) == (256 * 110, 256 * 110 * 1024)


def test_a_refusal_of_the_folder_stands_alone(model, data, monkeypatch, capsys):
    given = words(model, data, data.parent, "--eval-data", data, "--cap", "48")
    monkeypatch.setattr(sys, "argv", ["lengthwise", "shorten", *given])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "holds files but no run" in said[0]


def test_the_first_line_of_shorten(tmp_path, model, data, monkeypatch):
    heard: list[str] = []
    monkeypatch.setattr("lengthwise.runs.shortening.shorten.draw_and_grade", lambda *a, **o: 1 / 0)
    asked = ShortenSettings.from_dict(
        {"model": str(model), "data": str(data), "out": tmp_path / "run", "eval_data": str(data), "cap": 48,
         "preset": "lab"}
    )  # fmt: skip
    with pytest.raises(ZeroDivisionError):
        shorten_by(asked, listener=lambda event, facts: heard.append(facts["name"]) if event == "phase" else None)
    assert heard == [
        "evaluation: at most 512 response tokens, the default (--eval-cap raises it, up to 8,188)",
        "measuring before-sampling",
    ]


def circling(model: Path, folder: Path) -> Path:
    """The byte model with an embedding that makes every token write itself again: all responses go in a circle."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    net = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if "proj" in name:
                weight.zero_()  # the layers add nothing, so that the head sees the token itself
        rows = torch.nn.functional.normalize(torch.randn(257, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
        net.model.embed_tokens.weight.copy_(rows)
        net.lm_head.weight.copy_(40 * rows)
    net.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def test_circles_are_cut_and_counted_where_that_is_asked_for(tmp_path, model, data):
    folder = circling(model, tmp_path / "model")
    out, plain = tmp_path / "a", tmp_path / "b"
    given = ("--cap", 300, "--temperature", 0, "--json")
    summary = json.loads(run("evaluate", *words(folder, data, out, *given, "--stop-repeats")).stdout)
    rows = [json.loads(line) for line in (out / "responses.jsonl").read_text().splitlines()]
    assert [(row["num_tokens"], row["finished"], row["repeats"]) for row in rows] == [(WINDOW, False, True)] * 4
    assert summary["repeats"] == 4 and "4 of 4 responses were cut for repeating themselves" in summary["notes"]
    assert summary["truncation_rate"] == 1.0
    record = Record.load(out / "record.json")
    assert record.context["stop_repeats"] is True and Sampling.of(record.context).stop_repeats
    whole = json.loads(run("evaluate", *words(folder, data, plain, *given)).stdout)
    assert whole["repeats"] == 0 and "stop_repeats" not in whole["context"]
    assert whole["mean_tokens"] == 300
    with pytest.raises(InputError, match="stop_repeats: True and None"):
        check_comparable(record, Record.load(plain / "record.json"), allow=("model",))


def test_a_stop_for_circles_needs_our_own_sampler():
    server = {"model": "m", "data": "d", "endpoint": "http://x", "cap": 5}
    with pytest.raises(ConfigError, match="not behind a server"):
        EvaluateSettings.from_dict({**server, "stop_repeats": True})


def test_measurements_of_a_run_stop_circles_too(tmp_path, model, data):
    folder = circling(model, tmp_path / "model")
    given = words(folder, data, tmp_path / "run", "--eval-data", data, "--cap", 40, "--steps", 1, "--stop-repeats",
                  "--prompts", 2, "--group-size", 2, "--max-draws", 1)  # fmt: skip
    CliRunner().invoke(app, ["shorten", *given])  # nothing to learn from answers that are all wrong
    record = Record.load(tmp_path / "run" / "records" / "before-greedy.json")
    assert record.context["stop_repeats"] is True and record.context["cap"] == 512
    assert [n for row in record.num_tokens for n in row] == [WINDOW] * 4
