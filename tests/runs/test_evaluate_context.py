"""`lengthwise evaluate-context` end to end: a reader that knows scores 1.0, a random one near 0, pages are whole."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from context_words import byte_tokenizer, sources, tiny_folder
from typer.testing import CliRunner

from lengthwise.cli import app, main
from lengthwise.config.commands import EvaluateContextSettings
from lengthwise.context.tasks.rows import TaskRow
from lengthwise.runs.evaluate_context import measurement
from lengthwise.runs.evaluate_context.conclusion import conclusion
from lengthwise.runs.evaluate_context.measurement import Arm, evaluate_context
from lengthwise.runs.evaluate_context.results import AnswerCell, ArmFacts, ArmResult, ContextResult
from lengthwise.statistics.bootstrap import Interval

LONGCHAT = Path(__file__).parents[3] / "shared" / "data" / "longchat_lines"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("files")
    rows = [
        json.dumps({"document": s.document, "question": s.question, "answer": s.answer})
        for s in sources(4, numbers=True)
    ]
    (where / "qa.jsonl").write_text("\n".join(rows))
    (where / "text.txt").write_text(" ".join(s.document for s in sources(4)))
    return where


def measured(out: Path, models: Sequence[str], **given: object) -> dict[str, Any]:
    """What ``context.json`` holds."""
    return evaluate_context(EvaluateContextSettings.from_dict({"models": models, "out": out, **given})).to_dict()


def reads(rows: Sequence[TaskRow]) -> Iterator[str]:
    """A stand-in that reads: it finds what the question names, in the prompt alone."""
    for row in rows:
        if row.task == "lines":
            key = re.findall(r"in line (\S+?)\?", row.prompt)[-1]
            yield re.findall(rf"line {re.escape(key)}: REGISTER_CONTENT is <?(\d+)", row.prompt)[0]
        elif row.task == "passkey":
            yield re.findall(r"pass key is (\d+)", row.prompt)[0]
        else:
            town = re.findall(r"mill of town (\w) built", row.prompt)[0]
            yield re.findall(rf"town {town} was built at (.+?)\.", row.prompt)[0]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        measurement, "_arms", lambda asked: iter([Arm("reads", ArmFacts("as-is"), byte_tokenizer(), reads, None)])
    )


def test_a_reader_that_knows_scores_1(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    tasks = ("lines", "freeform-qa", "altered-qa", "passkey")
    given = {"tasks": tasks, "lengths": (1024, 2048), "limit": 24, "data": str(files / "qa.jsonl")}
    result = measured(tmp_path, ["lab:reader"], **given)
    cells = result["arms"][0]["cells"]
    assert [(cell["task"], cell["length"]) for cell in cells] == [(t, n) for t in tasks for n in (1024, 2048)]
    for cell in cells:
        assert cell["accuracy"]["estimate"] == cell["accuracy"]["low"] == 1.0 and cell["rows"] == 24
        assert sum(place["rows"] for place in cell["places"]) == 24
        assert 0.9 * cell["length"] <= cell["tokens"] <= cell["length"]
    assert json.loads((tmp_path / "context.json").read_text()) == result
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 24 * 8
    page = (tmp_path / "report.html").read_text()
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (
        page.count("by place of the evidence") == 4
        and "<svg" in page
        and "http" not in page.replace("http://www.w3", "")
    )


def reading(name: str, *shares: tuple[float, float, float]) -> ArmResult:
    """An arm with (accuracy, low, high) at 128, 256, 512 ... tokens."""
    cells = [
        AnswerCell(task="lines", length=128 << place, rows=20, tokens=128 << place, short=0, left_out={}, places=(),
                   accuracy=Interval(*share, level=0.95, draws=2000, dropped=0))
        for place, share in enumerate(shares)
    ]  # fmt: skip
    return ArmResult(name, ArmFacts("as-is"), cells)


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ([[(0.9, 0.8, 1.0), (0.8, 0.6, 0.95), (0.1, 0.0, 0.25)]],
         "a holds its accuracy on lines up to 256 tokens: 80.0% (60.0% to 95.0%); at 512 it is 10.0% (0.0% to 25.0%)."),
        ([[(0.9, 0.8, 1.0), (0.5, 0.3, 0.7)], [(0.8, 0.6, 0.95), (0.9, 0.8, 1.0)]],
         "Of 2 readers, b holds its accuracy on lines the farthest, up to 256 tokens: 90.0% (80.0% to 100.0%)."),
        ([[(0.9, 0.8, 1.0), (0.5, 0.3, 0.7)], [(0.8, 0.6, 0.95), (0.6, 0.4, 0.8)]],
         "2 of 2 readers hold their accuracy on lines up to 128 tokens, none beyond; at 256 b has the most, "
         "60.0% (40.0% to 80.0%)."),
        ([[(0.7, 0.5, 0.9), (0.0, 0.0, 0.0)], [(0.6, 0.4, 0.8), (0.0, 0.0, 0.0)]],
         "2 of 2 readers hold their accuracy on lines up to 128 tokens, none beyond; at 256 none is right."),
        ([[(0.0, 0.0, 0.0)], [(0.0, 0.0, 0.0)]],
         "None of 2 readers is ever right on lines at 128 tokens, the shortest length."),
    ],
)  # fmt: skip
def test_the_conclusion_says_how_far_the_accuracy_of_the_shortest_length_holds(
    arms: list[list[tuple[float, float, float]]], said: str
) -> None:
    settings = EvaluateContextSettings.from_dict({"models": ["m"], "lengths": [128], "tasks": ["lines"]})
    found = [reading(name, *shares) for name, shares in zip("ab", arms, strict=False)]
    assert conclusion(ContextResult(settings, found)) == said


@pytest.mark.skipif(not LONGCHAT.is_dir(), reason="no LongChat files here")
def test_longchat_end_to_end_with_a_reader_and_a_random_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(LONGCHAT / "200_lines.jsonl")
    given = {"tasks": ["lines"], "lengths": [1024], "lines": file}
    [cell] = measured(tmp_path / "random", [str(folder)], **given, limit=4)["arms"][0]["cells"]
    assert cell["accuracy"]["estimate"] < 0.1 and cell["rows"] == 4
    stand_in(monkeypatch)
    [cell] = measured(tmp_path / "reads", [str(folder)], **given)["arms"][0]["cells"]
    assert cell["accuracy"]["estimate"] == 1.0 and cell["rows"] == 50


def test_schemes_beside_each_other_and_perplexity_is_exact(folder: Path, files: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    given = {"scheme": ["as-is", "linear:4", "power:2", "xpos", "lambda"], "limit": 3, "text": str(files / "text.txt")}
    result = measured(tmp_path, [f"mine={folder}"], tasks=["perplexity", "passkey"], lengths=[512], **given)
    assert [arm["name"] for arm in result["arms"]] == [
        "mine",
        "mine, linear:4",
        "mine, power:2",
        "mine, xpos",
        "mine, lambda",
    ]
    assert [arm["factor"] for arm in result["arms"]] == [None, 4.0, 2.0, 1.0, None]
    found = [arm["cells"][0]["perplexity"]["estimate"] for arm in result["arms"]]
    assert len(set(found)) == 5
    # by hand: the mean loss of transformers over the same documents, all of one length
    net = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = byte_tokenizer()((files / "text.txt").read_text())["input_ids"]
    rows = torch.tensor([ids[512 * n : 512 * (n + 1)] for n in range(3)])
    with torch.no_grad():
        assert found[0] == pytest.approx(float(net(rows, labels=rows).loss.exp()), rel=1e-5)
    buckets = result["arms"][0]["cells"][0]["by_position"]
    assert len(buckets) == 8 and sum(bucket["tokens"] for bucket in buckets) == 3 * 511
    page = (tmp_path / "report.html").read_text()
    assert "perplexity by length" in page and "by position, " in page
    assert page.count(f"<td>{buckets[0]['loss']:.3f}</td>") >= 1


def test_answers_are_at_least_5_tokens_and_greedy(folder: Path) -> None:
    from lengthwise.engine.model_folders import load_policy

    policy = load_policy(folder, device="cpu")
    with torch.no_grad():
        policy.model.lm_head.weight[0] = 0  # the end token ties with nothing
    row = TaskRow("lines", "line a-b: REGISTER_CONTENT is 3", "3", 30)
    [text] = measurement._answers(policy, [row], None)
    ids = torch.tensor([policy.tokenizer(row.prompt)["input_ids"]])
    wanted = policy.model.generate(ids, max_new_tokens=35, min_new_tokens=5, do_sample=False)[0, ids.shape[1] :]
    assert text == policy.tokenizer.decode(wanted, skip_special_tokens=True)


def test_a_text_is_read_as_if_no_longer_one_had_been_read_before(folder: Path) -> None:
    """Under dynamic rotation transformers keeps the factors of the longest text, which change what is read next."""
    from lengthwise.context import extend
    from lengthwise.engine.model_folders import load_policy

    policy = load_policy(folder, device="cpu")
    extend(policy.model, "dynamic", factor=4.0)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                parameter.mul_(8)
    arm = Arm("m", ArmFacts("as-is"), policy.tokenizer, lambda rows: measurement._answers(policy, rows, None), policy)
    short, longer = TaskRow("lines", "number 3 " * 10, "3", 90), TaskRow("lines", "number 3 " * 20, "3", 180)
    alone = [arm.losses(range(1, 91)), *arm.answer([short])]
    arm.losses(range(1, 201))
    _, after = arm.answer([longer, short])
    assert torch.equal(arm.losses(range(1, 91)), alone[0]) and after == alone[1]


def test_an_endpoint_answers_the_same_tasks(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lengthwise.generation.endpoint import Client, Reply

    async def post(self, path, body):
        assert path == "/completions" and body["temperature"] == 0.0 and body["max_tokens"] == 35
        [text] = reads([TaskRow("lines", body["prompt"], "", 0)])
        return Reply(text, None, None, True)

    monkeypatch.setattr(Client, "post", post)
    server = {"endpoint": "http://localhost:1", "tokenizer": str(folder)}
    [arm] = measured(tmp_path, ["m"], **server, tasks=["lines"], lengths=[1024], limit=5)["arms"]
    assert arm["name"] == "m" and arm["cells"][0]["accuracy"]["estimate"] == 1.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--tasks": "liens"}, "tasks is ['liens']; choose one of lines"),
        ({"--lengths": "1m"}, "1k,2k,4096"),
        ({"--lengths": "1"}, "at least 2 tokens"),
        ({"--scheme": "liner:4"}, "choose as-is"),
        ({"--scheme": "linear:x"}, "linear:4"),
        ({"--limit": "0"}, "limit is 0"),
        ({"--tasks": "altered-qa"}, "needs --data FILE"),
        ({"--tasks": "perplexity"}, "needs --text FILE"),
        ({"--tasks": "perplexity", "--text": "nowhere.txt"}, "cannot be read"),
        ({"--endpoint": "http://localhost:1"}, "to build prompts of a length; give --tokenizer FOLDER"),
        ({"--lines": "nowhere.jsonl"}, "no such file"),
        ({"--chat-template": None}, "no chat template"),
        ({"--lengths": "100"}, "at least"),
    ],
    ids=str,
)
def test_bad_flags_are_one_line(
    folder: Path, tmp_path: Path, change: dict[str, str | None], says: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options = {"--lengths": "1k", "--tasks": "lines", "--out": str(tmp_path / "out"), **change}
    words = [word for pair in options.items() for word in pair if word is not None]
    monkeypatch.setattr(sys, "argv", ["lengthwise", "evaluate-context", str(folder), *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    complaint = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and says in complaint[-1], complaint


def test_the_command_prints_one_json_object_or_a_table(folder: Path, tmp_path: Path) -> None:
    arguments = ["evaluate-context", str(folder), "--lengths", "1k", "--limit", "2", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert [cell["task"] for cell in json.loads(done.stdout)["arms"][0]["cells"]] == ["lines", "passkey"]
    done = CliRunner().invoke(app, arguments)
    assert "lines" in done.stdout and "1k" in done.stdout and "report.html" in done.stdout


def test_a_folder_is_a_config_that_measures_the_same(folder: Path, tmp_path: Path) -> None:
    given = [str(folder), "--lengths", "1k", "--tasks", "lines", "--limit", "2", "--seed", "5"]
    for words in ([*given, "--out", "one"], ["--config", str(tmp_path / "one"), "--out", "two"]):
        done = CliRunner().invoke(app, ["evaluate-context", *words[:-1], str(tmp_path / words[-1])])
        assert done.exit_code == 0, done.output
    for name in ("context.json", "answers.jsonl", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
