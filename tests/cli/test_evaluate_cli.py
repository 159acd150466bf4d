"""`lengthwise evaluate` as a user has it: folders, refusals, baselines, kills, and servers that come and go."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import serving as servers
from evaluate_command import LAB, evaluated, invoke, write_rows
from serving import serving

from lengthwise.cli import main
from lengthwise.config.commands.evaluation import EvaluateSettings
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.statistics.records import Record

FILES = ["config.json", "graded.jsonl", "record.json", "report.html", "responses.jsonl", "summary.json"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "test.jsonl")


def complaint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str]:
    """Exit code and the line on stderr of a command that fails."""
    monkeypatch.setattr(sys, "argv", ["lengthwise", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1, said
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, said


# ---- our own sampler ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("evaluations") / "base"
    return evaluated("lab:chains", "--data", data, "--out", folder, "--samples", 2, *LAB), folder


def test_a_folder_holds_all_files_and_the_numbers_agree(base: tuple[dict[str, Any], Path]) -> None:
    summary, folder = base
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert summary["problems"] == 12
    assert summary["responses"] == 24
    assert json.loads((folder / "summary.json").read_text()) == summary
    record = Record.load(folder / "record.json")
    assert record.accuracies.mean() == pytest.approx(summary["accuracy"])
    assert record.tokens.mean() == pytest.approx(summary["mean_tokens"])
    assert record.context["data"] == "test.jsonl"
    assert record.context["samples"] == 2


def test_the_next_steps_name_the_model_and_the_problems(base: tuple[dict[str, Any], Path], data: Path) -> None:
    commands = [step["command"] for step in base[0]["next_steps"] if step["command"]]
    assert commands and all(command.split()[2] == "lab:chains" for command in commands)
    assert any(f"--data {data} " in command for command in commands)


def test_the_lab_s_problems_are_asked_as_the_lab_asks() -> None:
    given = {"model": "m", "data": "lab:chains"}
    assert EvaluateSettings.from_dict(given).contract.preset == "lab"
    assert EvaluateSettings.from_dict({**given, "data": "a.jsonl"}).contract.preset == "math"
    assert EvaluateSettings.from_dict({**given, "preset": "aime"}).contract.preset == "aime"


SAME = ["accuracy", "accuracy_interval", "mean_tokens", "truncation_rate", "tokens", "after_right", "abandoned",
        "pass_at_k", "majority_at_k", "by_category", "curve", "timeouts"]  # fmt: skip


def test_the_numbers_are_those_of_grade_on_the_same_responses(base: tuple[dict[str, Any], Path]) -> None:
    summary, folder = base
    graded = json.loads(invoke("grade", folder / "responses.jsonl", *LAB, "--tokenizer", "lab:chains", "--json").stdout)
    assert {name: graded[name] for name in SAME} == {name: summary[name] for name in SAME}


def test_the_same_command_draws_nothing_and_says_the_same(
    base: tuple[dict[str, Any], Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, folder = base
    monkeypatch.setattr(
        "lengthwise.runs.evaluation_plan.load_policy", lambda *a, **k: pytest.fail("a model was loaded")
    )
    assert evaluated("lab:chains", "--data", data, "--out", folder, "--samples", 2, *LAB) == summary


def test_the_config_in_a_folder_gives_the_same_measurement(base: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    _, folder = base
    config = json.loads((folder / "config.json").read_text())
    assert config["command"] == "evaluate"
    assert (config["settings"]["samples"], config["settings"]["seed"]) == (2, 0)
    assert not {"out", "overwrite", "json", "baseline", "threads"} & config["settings"].keys()
    evaluated("--config", folder, "--out", tmp_path / "again")
    for name in ("responses.jsonl", "record.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    printed = invoke("evaluate", "--config", folder, "--seed", 5, "--print-config").stdout
    assert "command: evaluate" in printed and "seed: 5" in printed and "temperature: 1.0" in printed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--temperature", "0.5"], "temperature: 1.0 there, 0.5 now"),
        (["--seed", "3"], "seed: 0 there, 3 now"),
        (["--budget", "30"], "intervention: None there, {'budget': 30, 'answer_tokens': 256} now"),
        (["--prompt-template", "{problem} "], "contract.template"),
        (["--sample-rows", "4"], "sample_rows: 128 there, 4 now"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_another_command_is_refused_by_the_field_that_differs(
    base: tuple[dict[str, Any], Path],
    data: Path,
    change: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, folder = base
    before = (folder / "responses.jsonl").read_bytes()
    arguments = ["lab:chains", "--data", data, "--out", folder, "--samples", 2, *LAB, *change]
    code, said = complaint(monkeypatch, capsys, *arguments)
    assert code == 2
    assert says in said
    assert "--overwrite" in said
    assert (folder / "responses.jsonl").read_bytes() == before


def test_changed_problems_are_another_evaluation_and_overwrite_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = write_rows(tmp_path / "t.jsonl", 4), tmp_path / "out"
    command = ["lab:chains", "--data", data, "--out", folder, *LAB]
    evaluated(*command)
    write_rows(tmp_path / "t.jsonl", 5)
    code, said = complaint(monkeypatch, capsys, *command)
    assert code == 2
    assert "problems.count: 4 there, 5 now" in said
    assert evaluated(*command, "--overwrite")["problems"] == 5


def test_a_folder_with_anything_else_in_it_is_never_replaced(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["lab:chains", "--data", data, "--out", tmp_path, *LAB, "--overwrite"]
    for there, says in (("{}", "holds files but no run"), ('{"command": "shorten", "environment": {}}', "of shorten")):
        (tmp_path / "config.json").write_text(there)
        code, said = complaint(monkeypatch, capsys, *words)
        assert code == 2
        assert says in said
        assert (tmp_path / "config.json").read_text() == there


def test_a_page_for_people_is_printed(base: tuple[dict[str, Any], Path], data: Path) -> None:
    _, folder = base
    shown = invoke("evaluate", "lab:chains", "--data", data, "--out", folder, "--samples", 2, *LAB).stdout
    assert "right on 12 problems (24 responses)" in shown
    assert f"record: {folder / 'record.json'}" in shown
    assert f"report: {folder / 'report.html'}" in shown


def test_problems_whose_reference_cannot_be_read_are_left_out_and_counted(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "t.jsonl", 4)
    with data.open("a") as file:
        file.write('{"problem": "1+1?", "answer": ""}\n{"problem": "2+1?"}\n')
    summary = evaluated("lab:chains", "--data", data, "--out", tmp_path / "out", *LAB)
    assert summary["problems"] == 4
    assert summary["problems_left_out"]["problems"] == 2
    assert "row 5: answer is ''" in summary["problems_left_out"]["first"]
    assert any("2 problems left out" in note for note in summary["notes"])


def test_the_labs_own_problems_are_those_of_the_demo() -> None:
    from lengthwise.config.commands import EvaluateSettings
    from lengthwise.runs.chains_demo import held_out
    from lengthwise.runs.evaluation_plan import _rows

    problems, _ = held_out(500, shipped_reasoner())
    settings = EvaluateSettings.from_dict({"model": "m", "data": "lab:chains"})
    assert [row["problem"] for row in _rows(settings)] == problems.questions
    assert len(_rows(settings.replace(limit=7))) == 7


# ---- baselines ----------------------------------------------------------------------------------------------


def test_a_baseline_adds_differences_to_the_page_the_json_and_the_report(
    base: tuple[dict[str, Any], Path], data: Path, tmp_path: Path
) -> None:
    reference = base[1] / "record.json"
    command = ["lab:chains", "--data", data, "--out", tmp_path / "b", "--samples", 2, *LAB, "--budget", 30,
               "--baseline", reference]  # fmt: skip
    summary = evaluated(*command)
    found = summary["comparison"]["records"][1]["against_reference"]
    assert found["tokens_ratio"]["estimate"] == pytest.approx(summary["mean_tokens"] / base[0]["mean_tokens"])
    assert summary["comparison"]["weights"] == [1.0, 3.0, 5.0]
    assert {"accuracy_difference", "accuracy_efficiency_score", "matched"} <= found.keys()
    assert summary["intervention"] == {"budget": 30, "answer_tokens": 256}
    assert 0 < summary["forced"] <= 24
    assert Record.load(tmp_path / "b" / "record.json").context["template"] == Record.load(reference).context["template"]
    shown = invoke("evaluate", *command).stdout
    assert "against lab:chains (baseline): tokens, ratio" in shown
    report = (tmp_path / "b" / "report.html").read_text()
    assert "against lab:chains (baseline): accuracy" in report
    assert "intervention: budget 30" in report
    assert (tmp_path / "b" / "comparison.html").is_file()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--cap": "100"}, "cap: 120 and 100"),
        ({"--temperature": "0.5"}, "temperature: 1.0 and 0.5"),
        ({"--prompt-template": "{problem} "}, "template"),
    ],
)
def test_an_unlike_baseline_is_refused_before_anything_is_drawn(
    base: tuple[dict[str, Any], Path],
    data: Path,
    tmp_path: Path,
    change: dict[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {"--data": data, "--out": tmp_path / "o", "--samples": 2, "--preset": "lab", "--cap": 120, **change}
    words = [word for pair in options.items() for word in pair]
    code, said = complaint(monkeypatch, capsys, "lab:chains", *words, "--baseline", base[1] / "record.json")
    assert code == 2
    assert says in said
    assert "compare-records" in said
    assert not (tmp_path / "o").exists()


def test_short_of_says_what_is_spent_beside_what_is_waited_for(data: Path, tmp_path: Path) -> None:
    summary = evaluated("lab:chains", "--data", data, "--out", tmp_path / "s", *LAB, "--short-of", 3)
    assert summary["spent_tokens"]["estimate"] == pytest.approx(3 * summary["mean_tokens"])
    assert summary["spent_tokens"]["low"] < summary["spent_tokens"]["estimate"] < summary["spent_tokens"]["high"]
    assert any("written beside each other" in note for note in summary["notes"])


# ---- what is refused ----------------------------------------------------------------------------------------

URL = ["m", "--endpoint", "http://127.0.0.1:9", "--retries", "0"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "model is not given; name MODEL"),
        (["--model", "m"], "--model is now the argument MODEL"),
        (["lab:chains", "--rule", "streaming"], "--rule is now --lambda-rule"),
        (["lab:chains", "--no-think"], "through a chat template, and there is none"),
        (["lab:chains", "--think", "no", "--no-think"], "no_think beside --think no"),
        (["lab:chains", "--native-budget", "9"], "--native-budget has no effect without --endpoint"),
        (["lab:chains", "--extra-body", "{}"], "--extra-body has no effect without --endpoint"),
        ([*URL, "--cap", "90", "--server-kind", "vllm"], "--server-kind has no effect without --native-budget"),
        ([*URL, "--cap", "90", "--early-stop", "eat"], "looks into the model while it writes"),
        (["lab:chains", "--lambda", "--early-stop", "deer"], "this model is under Lambda attention"),
        (["--endpoint", "http://127.0.0.1:9", "--cap", "9"], "model is not given; name MODEL"),
        ([*URL, "--cap", "9", "--stop-repeats"], "not behind a server"),
        (URL, "--cap N"),
        ([*URL, "--cap", "90", "--budget", "5"], "--tokenizer FOLDER"),
        ([*URL, "--cap", "90", "--tokenizer", "nowhere"], "no such folder"),
        (["lab:chains", "--tokenizer", "lab:chains"], "--tokenizer has no effect without --endpoint"),
        (["nowhere"], "no such folder"),
        (["lab:chains", "--budget", "8", "--early-stop", "agree"], "exclude each other"),
        (["lab:chains", "--concise"], "vocabulary has none"),
        (["lab:chains", "--early-stop", "never"], "choose one of agree, eat, deer"),
        (["lab:chains", "--budget", "600", "--cap", "100"], "lower the budget or raise the cap"),
        (["lab:chains", "--cap", "600"], "allows 512 positions"),
        (["lab:chains", "--samples", "0"], "samples is 0"),
        (["lab:chains", "--sample-rows", "0"], "sample_rows is 0"),
        (["lab:chains", "--dtype", "int4"], "dtype is 'int4'"),
        (["lab:chains", "--device", "cuda:77"], "this machine does not have"),
        (["lab:chains", "--grader", "nonsense"], "module:function"),
        (["lab:chains", "--answer-pattern", "("], "no regular expression"),
        (["lab:chains", "--prompt-template", "no slot"], "{problem}"),
        (["lab:chains", "--baseline", "nowhere.json"], "no such file"),
        (["lab:chains", "--problem-column", "question"], "no column 'question'"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_leaves_no_folder(
    data: Path,
    tmp_path: Path,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--data", data, "--out", tmp_path / "o", "--preset", "lab", *arguments]
    code, said = complaint(monkeypatch, capsys, *words)
    assert code == 2
    assert says in said
    assert not (tmp_path / "o").exists()


def test_a_server_that_is_not_there_is_a_failed_run_that_can_be_continued(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lengthwise", "evaluate", "--data", str(data), "--out", str(tmp_path / "o"),
                                      *LAB, *URL])  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "no response after 1 tries (ConnectError" in said
    with serving() as server:
        summary = evaluated("--data", data, "--out", tmp_path / "o2", *LAB, "--endpoint", server.url, "m")
    assert summary["accuracy"] == 1.0


# ---- a server -----------------------------------------------------------------------------------------------


def thinking(text: str, **more: Any) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    return lambda asked, body: {"text": text, "tokens": 40, "finish": "stop", **more}


GSM = ["--preset", "gsm8k", "--cap", "60", "m"]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "gsm.jsonl"
    rows = [{"question": f"What is {n} plus 1?", "answer": f"It is {n + 1}. #### 18"} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "answer",
    [
        thinking("<think>\nhm\n</think>\n\nThe answer is \\boxed{18}."),
        thinking("hm\n</think>\n\nThe answer is \\boxed{18}."),
        thinking("The answer is \\boxed{18}.", reasoning="hm"),
        thinking("◁think▷hm 17◁/think▷The answer is \\boxed{18}."),
        thinking("17</think>The answer is \\boxed{18}.", reasoning="\\boxed{16}"),
    ],
    ids=["marked", "opened in the prompt", "given apart", "other marks", "given apart in part"],
)
def test_thinking_is_understood_wherever_the_server_puts_it(
    tmp_path: Path, questions: Path, answer: servers.Answer
) -> None:
    with serving(answer) as server:
        summary = evaluated("--data", questions, "--out", tmp_path / "o", *GSM, "--endpoint", server.url)
    assert summary["accuracy"] == 1.0
    assert summary["unclosed_rate"] == 0.0
    assert summary["context"]["model"] == "m"
    assert summary["context"]["tokenizer"] == "the server's own counts"


def test_a_model_that_answers_directly_and_is_said_to_think_is_noticed(tmp_path: Path, questions: Path) -> None:
    with serving(thinking("The answer is \\boxed{18}.")) as server:
        command = ["--data", questions, *GSM, "--endpoint", server.url, "--out"]
        shown = invoke("evaluate", *command, tmp_path / "a", "--think", "yes")
        assert "warning: 100% of the responses never close their thinking" in shown.stderr
        assert "give --think no" in shown.stderr
        assert "0.0% right" in shown.stdout
        for place, flags in enumerate((["--think", "no"], ["--think", "marks"], [])):
            shown = invoke("evaluate", *command, tmp_path / f"b{place}", *flags)
            assert "warning" not in shown.stderr
            assert "100.0% right" in shown.stdout
        assert "thinking: nothing is pre-filled: without --tokenizer nothing tells" in shown.stderr


def test_an_own_pattern_and_column_reach_the_grader(tmp_path: Path, questions: Path) -> None:
    with serving(thinking("</think>First 7. Result: 18!")) as server:
        summary = evaluated(
            "--data", questions, "--out", tmp_path / "o", *GSM, "--endpoint", server.url, "--answer-pattern",
            r"Result: (\d+)!", "--prompt-template", "Q: {problem} A?",
        )  # fmt: skip
    assert summary["accuracy"] == 1.0
    assert server.requests[0]["body"]["messages"][0]["content"].startswith("Q: What is")


def test_the_same_problem_twice_counts_as_two(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "t.jsonl", 3)
    data.write_text(data.read_text() * 2)
    with serving() as server:
        summary = evaluated("--data", data, "--out", tmp_path / "o", *LAB, "--endpoint", server.url, "m")
    assert summary["problems"] == 6
    assert summary["left_out"]["rows"] == 0


def test_the_key_stands_in_no_file(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "sk-very-secret")
    with serving() as server:
        evaluated(
            "--data", data, "--out", tmp_path / "o", *LAB, "--endpoint", server.url, "m", "--api-key-env",
            "SECRET_KEY",
        )  # fmt: skip
    assert server.requests[0]["headers"]["Authorization"] == "Bearer sk-very-secret"
    for path in (tmp_path / "o").iterdir():
        assert b"very-secret" not in path.read_bytes(), path
