"""How far a config reaches: every scheme, both styles of config, and our own commands beyond the trained length."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from context_words import extended, tiny_folder
from transformers import AutoConfig
from typer.testing import CliRunner

from lengthwise.cli import app, main
from lengthwise.context.positions.extend_folder import changed_json
from lengthwise.context.positions.scheme_config import SCHEMES, Scheme
from lengthwise.context_length import reach
from lengthwise.pretrained import read_config

TRAINED, FACTOR = 64, 4.0
LLAMA = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": TRAINED}
STYLES: dict[str, dict[str, Any]] = {
    "transformers 4": {"rope_theta": 1e4, "rope_scaling": None},
    "transformers 5": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_reaches_the_trained_length_times_its_factor(tmp_path, scheme, style):
    plain = {**LLAMA, **STYLES[style]}
    changes = Scheme(scheme, FACTOR).changes(AutoConfig.for_model(**json.loads(json.dumps(plain))))
    (tmp_path / "config.json").write_text(json.dumps(changed_json(plain, changes)))
    config = json.loads((tmp_path / "config.json").read_text())
    assert ("rope_parameters" in config) == (style == "transformers 5")
    assert reach(read_config(tmp_path)) == 256  # 4 * 64


# What public folders say, and how far their makers say they read.
@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        # Vicuna 16k: the config keeps 4096, a factor of 4
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16_384),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, 8192),
        # Qwen2.5's instructions: 32768 stays, yarn of 4 beside it
        ({"max_position_embeddings": 32_768,
          "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}}, 131_072),
        # a config that names the stretched length already: 4096 * 32
        ({"max_position_embeddings": 131_072,
          "rope_parameters": {"rope_type": "yarn", "factor": 32.0, "rope_theta": 1.5e5,
                              "original_max_position_embeddings": 4096}}, 131_072),
        # Llama 3.2: 8192 * 32 would be twice what it was trained to
        ({"max_position_embeddings": 131_072,
          "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                           "original_max_position_embeddings": 8192}}, 131_072),
        ({"max_position_embeddings": 2048}, 2048),
    ],
    ids=["linear", "dynamic", "yarn", "yarn, named", "llama3", "plain"],
)  # fmt: skip
def test_public_configs(tmp_path, fields, wanted):
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **fields}))
    assert reach(read_config(tmp_path)) == wanted


def test_other_architectures():
    ropes = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    gemma = AutoConfig.for_model("gemma3_text", max_position_embeddings=131_072, rope_parameters=ropes)
    assert reach(gemma) == 131_072  # its makers count the factor in
    factors = [1.0] * 8
    phi = AutoConfig.for_model(
        "phi3", hidden_size=64, num_attention_heads=4, max_position_embeddings=131_072,
        original_max_position_embeddings=4096,
        rope_scaling={"type": "longrope", "short_factor": factors, "long_factor": factors},
    )  # fmt: skip
    assert reach(phi) == 131_072
    assert reach(AutoConfig.for_model("gpt2")) == 1024  # n_positions
    assert reach(AutoConfig.for_model("bloom")) is None  # ALiBi names no bound


def test_the_text_part_of_a_composite_config_counts():
    class Whole:
        max_position_embeddings = 7

        def get_text_config(self) -> Any:
            return AutoConfig.for_model(**LLAMA)

    assert reach(Whole()) == TRAINED


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps({"problem": f"{n}+1?" * 4, "answer": str(n + 1)}) + "\n" for n in range(8)))
    return path


def run(*words: object) -> Any:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("scheme", ["linear", "dynamic", "yarn", "ntk", "longrope", "power"])
def test_extended_folders_answer_beyond_the_trained_length(tmp_path, base, data, scheme):
    folder, lab = tmp_path / "model", ["--data", data, "--preset", "lab", "--out", tmp_path / "run", "--json"]
    extended(base, folder, Scheme(scheme, FACTOR))
    written = json.loads(run("generate", folder, "--prompt", "x" * 100, "--cap", 26, "--json").stdout)
    assert written["prompt_tokens"] + written["new_tokens"] > TRAINED
    summary = json.loads(run("evaluate", folder, *lab, "--cap", 100).stdout)
    assert summary["context"]["cap"] == 100 and max(lengths(tmp_path / "run")) > TRAINED


def lengths(folder: Path) -> list[int]:
    rows = (folder / "responses.jsonl").read_text().splitlines()
    return [json.loads(row)["num_tokens"] for row in rows]


def test_an_extended_folder_is_shortened_beyond_the_trained_length(tmp_path, base, data, monkeypatch):
    (tmp_path / "graders_of_reach.py").write_text("def even(response, answer):\n    return len(response) % 2 == 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    extended(base, tmp_path / "model", Scheme("linear", FACTOR))
    words = ["shorten", tmp_path / "model", "--data", data, "--preset", "lab", "--cap", 100, "--eval-cap", 110,
             "--out", tmp_path / "run", "--steps", 1, "--prompts", 2, "--group-size", 6, "--eval-data", data,
             "--grader", "graders_of_reach:even", "--json"]  # fmt: skip
    outcome = json.loads(run(*words).stdout)
    assert outcome["before"]["mean_tokens"] > TRAINED
    assert reach(read_config(tmp_path / "run" / "model")) == 256


@pytest.mark.parametrize("scheme", ["linear", "dynamic"])
def test_beyond_its_reach_a_folder_is_still_refused(tmp_path, base, data, monkeypatch, capsys, scheme):
    extended(base, tmp_path / "model", Scheme(scheme, FACTOR))
    run_out = ["--data", data, "--eval-data", data, "--preset", "lab", "--cap", 250, "--out", tmp_path / "run"]
    for words in (
        ["generate", tmp_path / "model", "--prompt", "x" * 250, "--cap", 7],
        ["evaluate", tmp_path / "model", "--data", data, "--preset", "lab", "--cap", 250, "--out", tmp_path / "run"],
        ["shorten", tmp_path / "model", *run_out],
        ["export", "trl", tmp_path / "model", "--data", data, "--preset", "lab", "--cap", 250,
         "--out", tmp_path / "run"],
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["lengthwise", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr().err.strip()
        assert stopped.value.code == 2 and "256" in said and len(said.splitlines()) == 1, said
        assert not (tmp_path / "run").exists()


def test_an_export_of_an_extended_folder_may_go_beyond_the_trained_length(tmp_path, base, data):
    extended(base, tmp_path / "model", Scheme("linear", FACTOR))
    words = [tmp_path / "model", "--data", data, "--preset", "lab", "--cap", 100]
    run("export", "trl", *words, "--out", tmp_path / "trl", "--prompts", 8, "--group-size", 4)
    run("export", "verl", *words, "--out", tmp_path / "verl", "--prompts", 8, "--group-size", 4)
