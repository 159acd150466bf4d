"""`--think` in every command that renders prompts: what was decided is said, and stands in what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from evaluate_command import invoke
from thinking_templates import CLOSES, HYBRID, OPENS, PLAIN, STRIPS, THINK, tokenizer

from lengthwise.cli import main

ROWS = [{"problem": f"{n} + 5 ?", "answer": "5", "problem_id": n} for n in ("7", "5", "7 7", "5 7", "7 5", "5 5")]
KNOWN = "thinking: '<think>\\n' is pre-filled, which chat template and vocabulary both know"
UNKNOWN = "thinking: nothing is pre-filled: neither chat template nor vocabulary knows any mark of thinking"
ASKED = ["--preset", "math", "--prompt-template", "{problem}"]
# model, what is said, what the prompt ends in
MODELS = [("knows", KNOWN, "<bot> <think>\n"), ("knows-not", UNKNOWN, "<bot> ")]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    kinds = {"knows": (STRIPS, THINK), "knows-not": (PLAIN, []), "opens": (OPENS, THINK), "closes": (CLOSES, THINK),
             "hybrid": (HYBRID, THINK)}  # fmt: skip
    for name, (template, extra) in kinds.items():
        tiny.model().save_pretrained(folder / name)
        tokenizer(template, extra).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    # Enough problems for a tenth to be held out of them.
    rows = [row | {"problem": row["problem"] + " 7" * n, "problem_id": f"{row['problem_id']}/{n}"}
            for row in ROWS for n in range(10)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("name", "said", "ending"), MODELS)
def test_an_evaluation_says_it_and_records_it(
    tmp_path: Path, models: Path, data: Path, name: str, said: str, ending: str
) -> None:
    shown = invoke("evaluate", models / name, "--data", data, *ASKED, "--cap", 3, "--out", tmp_path / "o", "--json")
    assert said in shown.stderr
    assert any(note.startswith(said) for note in json.loads(shown.stdout)["notes"])
    contract = json.loads((tmp_path / "o" / "record.json").read_text())["context"]["contract"]
    assert f"thinking: {contract['think_reason']}".startswith(said)
    assert "<bot> " + contract["think_prefix"] == ending
    assert (contract["think_close"] is None) == contract["think_marks"] == (name == "knows-not")


@pytest.mark.parametrize(("name", "said", "ending"), MODELS)
def test_dry_runs_say_it(models: Path, data: Path, tmp_path: Path, name: str, said: str, ending: str) -> None:
    command = ["shorten", models / name, "--data", data, *ASKED, "--cap", 3, "--out", tmp_path / "o", "--dry-run"]
    assert f"({said}" in invoke(*command).stdout
    shown = json.loads(invoke(*command, "--json").stdout)
    assert shown["prompt"].endswith(ending)
    forced = json.loads(invoke(*command, "--json", "--think", "--no-chat-template").stdout)  # by itself: yes
    assert (forced["prompt"].endswith("<think>\n"), forced["thinking"]) == (True, None)


@pytest.mark.parametrize(("name", "said", "ending"), MODELS)
def test_comparisons_and_exports_say_it(
    models: Path, data: Path, tmp_path: Path, name: str, said: str, ending: str
) -> None:
    compared = ["compare", models / name, "--data", data, *ASKED, "--methods", "grpo", "--out", tmp_path / "c"]
    shown = invoke(*compared, "--cap", 8, "--eval-cap", 16, "--settings", 1, "--dry-run")
    assert said in shown.stdout
    shown = invoke("export", "trl", models / name, "--data", data, *ASKED, "--cap", 3, "--method", "grpo",
                   "--out", tmp_path / "e", "--prompts", 4, "--updates", 1)  # fmt: skip
    assert said in shown.stderr
    script = (tmp_path / "e" / "train.py").read_text()
    assert f"'think_prefix': {ending.removeprefix('<bot> ')!r}" in script.replace('"', "'")


@pytest.mark.parametrize("name", ["opens", "closes", "knows", "knows-not"])
def test_generate_writes_on_from_any_chat_template(models: Path, name: str) -> None:
    shown = invoke("generate", models / name, "--prompt", "7 + 5 ?", "--chat-template", "--cap", 2, "--json")
    assert json.loads(shown.stdout)["new_tokens"] in (1, 2)


def test_thinking_is_switched_off_as_a_baseline_by_the_template_and_compared_with_the_model_as_it_is(
    models: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["evaluate", models / "hybrid", "--data", data, *ASKED, "--cap", 3, "--limit", 6, "--json", "--out"]
    invoke(*asked, tmp_path / "base")
    baseline = tmp_path / "base" / "record.json"
    found = json.loads(invoke(*asked, tmp_path / "off", "--no-think", "--baseline", baseline).stdout)
    record = json.loads((tmp_path / "off" / "record.json").read_text())["context"]
    assert record["intervention"] == found["intervention"] == {"no_think": True}
    assert record["template"] == json.loads(baseline.read_text())["context"]["template"]
    # Nothing was opened for it, so a response without marks is all answer, and none counts as unclosed.
    assert found["unclosed_rate"] == 0.0
    assert found["comparison"] is not None
    words = [str(models / "knows") if word == models / "hybrid" else str(word) for word in asked]
    monkeypatch.setattr("sys.argv", ["lengthwise", *words, str(tmp_path / "no"), "--no-think"])
    with pytest.raises(SystemExit):
        main()
    assert "no_think needs a chat template that heeds enable_thinking" in capsys.readouterr().err
