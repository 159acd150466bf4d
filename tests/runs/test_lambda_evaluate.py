"""`evaluate --lambda` and the sampler below it: rows without padding, no end, and refusals where it makes no sense."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lambda_tools import model, tokens
from typer.testing import CliRunner

from lengthwise.cli import app, main
from lengthwise.context import lambda_attention
from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.errors import InputError
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.statistics.records import Record


def sampled(net: Any, prompts: list[list[int]], cap: int, **options: Any) -> Any:
    sampler = Sampler(net, eos_ids=[1], pad_id=0, **options)
    return sampler.generate(prompts, caps=cap, generator=torch.Generator().manual_seed(0), temperature=0)


def test_rows_of_unlike_length_are_written_as_alone():
    # Trained to 64 tokens; prompts of 5, 9 and 5 again, with 90 tokens after them.
    net = model()
    prompts = [tokens(n, rows=1, seed=n + k)[0].tolist() for k, n in enumerate((5, 9, 5))]
    with pytest.raises(InputError, match="allows 64"):
        sampled(net, prompts, 90)
    with lambda_attention(net, n_global=3, window=8):
        with pytest.raises(ValueError, match="padding before a real token"):
            Sampler(net, eos_ids=[1], pad_id=0).prefill([prompts[0], prompts[1]])
        found = sampled(net, prompts, 90, endless=True)
        assert torch.equal(found.num_tokens, sampled(net, prompts, 90, endless=True, max_rows=1).num_tokens)
        for row, prompt in enumerate(prompts):
            wanted = net.generate(torch.tensor([prompt]), max_new_tokens=90, do_sample=False, eos_token_id=1)
            assert found.response(row) == wanted[0, len(prompt) :].tolist()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "test.jsonl"
    path.write_text("".join(json.dumps(c.row) + "\n" for c in chains.problems(6, split="test", seed=0, levels=(2, 4))))
    return path


def test_evaluate_within_the_window_is_the_same_and_beyond_goes_on(data, tmp_path):
    common = ["evaluate", str(shipped_reasoner()), "--data", str(data), "--preset", "lab", "--temperature", "0"]
    runs = {"plain": ["--cap", "120"], "wide": ["--cap", "120", "--lambda"], "long": ["--cap", "600", "--lambda"]}
    runs["long"] += ["--window", "64", "--n-global", "4"]
    for name, flags in runs.items():
        done = CliRunner().invoke(app, [*common, *flags, "--out", str(tmp_path / name), "--json"])
        assert done.exit_code == 0, done.output
    plain, wide, long = (Record.load(tmp_path / name / "record.json") for name in runs)
    assert (wide.answer_correct, wide.num_tokens) == (plain.answer_correct, plain.num_tokens)
    assert plain.context.get("lambda") is None
    assert wide.context["lambda"] == {}
    assert long.context["lambda"] == {"window": 64, "n_global": 4}
    assert long.context["cap"] == 600  # 512 is what the model was trained to
    summary = json.loads((tmp_path / "long" / "summary.json").read_text())
    assert any(note.startswith("Lambda attention") for note in summary["notes"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["evaluate", "MODEL", "--data", "DATA", "--window", "64"], "without --lambda"),
        (["evaluate", "MODEL", "--data", "DATA", "--lambda", "--window", "0", "--preset", "lab"], "window is 0"),
        (["evaluate", "--endpoint", "http://localhost:1", "x", "--cap", "5", "--data", "DATA", "--lambda"],
         "not one behind a server"),
        (["shorten", "MODEL", "--data", "DATA", "--out", "OUT", "--lambda"], "--lambda cannot be used to shorten"),
        (["extend", "MODEL", "--scheme", "yarn", "--out", "OUT", "--lambda"], "--lambda cannot be written"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else value,
)  # fmt: skip
def test_refusals_are_one_line_and_leave_nothing(arguments, says, data, tmp_path, monkeypatch, capsys):
    words = {"MODEL": str(shipped_reasoner()), "DATA": str(data), "OUT": str(tmp_path / "out")}
    monkeypatch.setattr(sys, "argv", ["lengthwise", *(words.get(word, word) for word in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    complaint = capsys.readouterr().err.strip()
    assert stopped.value.code == 2, complaint
    assert says in complaint
    assert len(complaint.splitlines()) == 1
    assert not (tmp_path / "out").exists()
