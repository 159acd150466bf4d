"""The command line: flags are frozen, bad input is one line and exit code 2, the main job runs end to end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from lengthwise import __version__
from lengthwise.cli import app, main
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.statistics.bootstrap import Interval

FLAGS = {
    "compare": [
        "--answer-column", "--answer-pattern", "--backend", "--baselines", "--cap", "--chat-template",
        "--checkpoint-every", "--choose", "--config", "--controls", "--data", "--device", "--dry-run", "--dtype",
        "--eval-cap", "--eval-samples", "--grad-clip", "--grader", "--gradient-checkpointing", "--group-size", "--jobs",
        "--json", "--keep-models", "--liger", "--lora", "--lr", "--margin", "--max-draws", "--methods",
        "--micro-batch-tokens", "--no-baselines", "--no-chat-template", "--no-dry-run", "--no-gradient-checkpointing",
        "--no-json", "--no-keep-models", "--no-liger", "--no-overwrite", "--no-trust-remote-code", "--option", "--out",
        "--overwrite", "--preset", "--print-config", "--problem-column", "--prompt-template", "--prompts", "--quiet",
        "--sample-rows", "--seed", "--seeds", "--settings", "--several", "--steps", "--sweep", "--system-prompt",
        "--temperature", "--test-data", "--test-limit", "--think", "--token-budget", "--truncate-importance",
        "--trust-remote-code", "--updates", "--validation-limit", "--vllm-memory", "--warmup-steps", "--weight-decay",
        "MODEL",
    ],
    "compare-records": [
        "--allow", "--config", "--json", "--no-json", "--no-recut", "--out", "--print-config", "--quiet", "--recut",
        "--score-weights", "--seed", "RECORD...",
    ],
    "doctor": ["--config", "--json", "--no-json", "--print-config", "--quiet"],
    "demo": [
        "--config", "--json", "--limit", "--no-json", "--no-overwrite", "--out", "--overwrite", "--print-config",
        "--quiet", "--seed", "--steps", "--threads",
    ],
    "evaluate": [
        "--answer-column", "--answer-pattern", "--answer-prompt", "--answer-tokens", "--api-key-env", "--backend",
        "--baseline", "--budget", "--cap", "--chat-template", "--concise", "--concurrency", "--config", "--data",
        "--device", "--dtype", "--early-stop", "--endpoint", "--exit-threshold", "--exit-warm-up", "--extra-body",
        "--grader", "--json", "--lambda", "--lambda-rule", "--limit", "--n-global", "--native-budget",
        "--no-chat-template", "--no-concise", "--no-json", "--no-lambda", "--no-no-think", "--no-overwrite",
        "--no-stop-repeats", "--no-think", "--no-trust-remote-code", "--out", "--overwrite", "--preset",
        "--print-config", "--problem-column", "--prompt-template", "--quiet", "--retries", "--sample-rows", "--samples",
        "--seed", "--server-kind", "--several", "--short-of", "--stop-repeats", "--system-prompt", "--temperature",
        "--think", "--threads", "--timeout", "--tokenizer", "--top-p", "--trust-remote-code", "--vllm-memory",
        "--window", "MODEL",
    ],
    "evaluate-context": [
        "--api-key-env", "--chat-template", "--concurrency", "--config", "--data", "--device", "--dtype", "--endpoint",
        "--extra-body", "--json", "--lengths", "--limit", "--lines", "--no-chat-template", "--no-json",
        "--no-trust-remote-code", "--out", "--print-config", "--quiet", "--retries", "--scheme", "--seed", "--tasks",
        "--text", "--threads", "--timeout", "--tokenizer", "--trust-remote-code", "MODEL...",
    ],
    "export": [
        "--answer-column", "--answer-pattern", "--cap", "--chat-template", "--checkpoint-every", "--config", "--data",
        "--devices", "--gate", "--grad-clip", "--grader", "--gradient-checkpointing", "--group-size", "--json",
        "--lora", "--lr", "--max-draws", "--method", "--micro-batch-rows", "--no-chat-template",
        "--no-gradient-checkpointing", "--no-json", "--no-overwrite", "--no-trust-remote-code", "--no-vllm", "--nodes",
        "--option", "--out", "--overwrite", "--preset", "--print-config", "--problem-column", "--prompt-template",
        "--prompts", "--quiet", "--seed", "--several", "--sharding", "--steps", "--system-prompt", "--temperature",
        "--tensor-parallel", "--think", "--trust-remote-code", "--updates", "--vllm", "--warmup-steps",
        "--weight-decay", "ENGINE", "MODEL",
    ],
    "extend": [
        "--batch-rows", "--chunk", "--config", "--data", "--dtype", "--epochs", "--eval-factor", "--factor", "--json",
        "--link", "--lora", "--lr", "--micro-batch-rows", "--no-json", "--no-link", "--no-overwrite",
        "--no-trust-remote-code", "--option", "--out", "--overwrite", "--power", "--print-config", "--quiet",
        "--scheme", "--seed", "--steps", "--text-column", "--threads", "--truncate-length", "--trust-remote-code",
        "--warmup-steps", "--xpos-scale-base", "MODEL",
    ],
    "generate": [
        "--cap", "--chat-template", "--config", "--device", "--dtype", "--json", "--lambda", "--lambda-rule",
        "--n-global", "--no-chat-template", "--no-json", "--no-lambda", "--no-stream", "--no-trust-remote-code",
        "--prefill-chunk", "--print-config", "--prompt", "--prompt-file", "--quiet", "--seed", "--stream",
        "--temperature", "--threads", "--top-p", "--trust-remote-code", "--window", "MODEL",
    ],
    "grade": [
        "--answer-column", "--answer-pattern", "--answers", "--cap", "--category-column", "--config", "--disagreements",
        "--finished-column", "--format", "--grader", "--hard", "--json", "--look", "--metrics", "--no-json",
        "--no-strict", "--no-trust-remote-code", "--out", "--preset", "--price", "--print-config", "--problem-column",
        "--problem-id-column", "--quiet", "--reasoning-column", "--reasoning-tokens-column", "--record", "--report",
        "--response-column", "--right-from", "--sample-column", "--seconds", "--seed", "--several", "--strict",
        "--t-max", "--think", "--tokenizer", "--tokens-column", "--trust-remote-code", "--verdict-column", "--workers",
        "LOG...",
    ],
    "merge": [
        "--base", "--config", "--density", "--dry-run", "--exclude", "--extrapolate", "--files-from", "--head",
        "--include", "--json", "--method", "--mixed-dtype", "--no-dry-run", "--no-extrapolate", "--no-json",
        "--no-mixed-dtype", "--no-normalize", "--no-overwrite", "--normalize", "--out", "--out-dtype", "--overwrite",
        "--print-config", "--quiet", "--rescale", "--scale", "--scope", "--seed", "--shard-mb", "--t", "--weights",
        "MODEL...",
    ],
    "methods": ["--config", "--json", "--no-json", "--print-config", "--quiet", "NAME"],
    "repair": [
        "--answer-column", "--answer-pattern", "--base", "--cap", "--chat-template", "--config", "--control", "--data",
        "--device", "--dtype", "--fraction", "--fractions", "--grader", "--harmful", "--harmful-template", "--json",
        "--judge", "--judge-data", "--judge-threshold", "--limit", "--mask", "--max-length", "--micro-batch-rows",
        "--mode", "--no-chat-template", "--no-json", "--no-overwrite", "--no-trust-remote-code", "--out", "--overwrite",
        "--preset", "--print-config", "--problem-column", "--prompt-template", "--quiet", "--reference", "--rounding",
        "--rows", "--sample-rows", "--scope", "--score", "--seed", "--several", "--system-prompt", "--target",
        "--think", "--threads", "--tokens", "--trust-remote-code", "MODEL",
    ],
    "report": ["--config", "--json", "--no-json", "--out", "--print-config", "--quiet", "RUN..."],
    "shorten": [
        "--answer-column", "--answer-pattern", "--backend", "--cap", "--chat-template", "--checkpoint-every",
        "--config", "--cycle", "--data", "--device", "--dry-run", "--dtype", "--eval-cap", "--eval-data",
        "--eval-limit", "--eval-samples", "--gate", "--grad-clip", "--grader", "--gradient-checkpointing",
        "--group-size", "--json", "--liger", "--longest", "--lora", "--lr", "--max-draws", "--merge-back", "--method",
        "--micro-batch-tokens", "--no-chat-template", "--no-dry-run", "--no-gradient-checkpointing", "--no-json",
        "--no-liger", "--no-overwrite", "--no-stop-repeats", "--no-trust-remote-code", "--option", "--out",
        "--overwrite", "--preset", "--print-config", "--problem-column", "--prompt-template", "--prompts", "--quiet",
        "--sample-rows", "--seed", "--several", "--short-model", "--shortest", "--stage", "--steps", "--stop-repeats",
        "--system-prompt", "--temperature", "--think", "--threads", "--token-budget", "--truncate-importance",
        "--trust-remote-code", "--updates", "--vllm-memory", "--warmup-steps", "--weight-decay", "MODEL",
    ],
}  # fmt: skip


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from lengthwise.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def write_rows(path: Path, count: int = 120, levels: tuple[int, ...] = (2, 3)) -> Path:
    rows = [chain.row for chain in chains.problems(count, split="train", seed=0, levels=levels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_flags_are_frozen() -> None:
    # Flags only grow: a new one is added here on purpose, a lost one breaks somebody's script.
    group = typer.main.get_command(app)
    found = {
        name: sorted(
            option
            for parameter in command.params
            for option in ([*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option"
                           else [parameter.metavar])
            if option != "--help"
        )
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }  # fmt: skip
    assert found == FLAGS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "train.jsonl")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "nowhere"}, "no such folder"),
        ({"--data": "nowhere.jsonl"}, "no such file"),
        ({"content": '{"problem": "1+1?"'}, "line 1 is not JSON"),
        ({"content": ""}, "is empty"),
        ({"content": '{"question": "1+1?", "answer": "2"}\n'}, "no column 'problem'; it has question, answer"),
        ({"content": '{"problem": "1+1?", "answer": ""}\n'}, "row 1: empty answer"),
        ({"--cap": "0"}, "cap is 0"),
        ({"--cap": "many"}, "cap is 'many'"),
        ({"--cap": "600"}, "the model allows 512 positions"),
        ({"--group-size": "1"}, "group_size is 1"),
        ({"--device": "cuda:0,cuda:1"}, "one device"),
        ({"--device": "cuda:77"}, "this machine does not have"),
        ({"--method": "dlre"}, "did you mean dler"),
        ({"--option": "clip_hihg=2"}, "did you mean clip_high"),
        ({"--option": "clip_high=lots"}, "give a number"),
        ({"--top-p": "0.9"}, "temperature alone"),
        ({"--lr": "-1"}, "lr is -1"),
        ({"--updates": "99"}, "updates is 99"),
        ({"--preset": "lba"}, "lab"),
        ({"--eval-cap": "10"}, "eval_cap is 10, below the training cap"),
        ({"--dtype": "int4"}, "dtype is 'int4'"),
        ({"--grader": "nonsense"}, "module:function"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path,
    data: Path,
    change: dict[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change = dict(change)
    source = data
    if "content" in change:
        source = tmp_path / "rows.jsonl"
        source.write_text(change.pop("content"))
    model = change.pop("model", str(shipped_reasoner()))
    options = {"--data": str(source), "--out": str(tmp_path / "run"), "--preset": "lab", "--cap": "40"} | change
    arguments = ["shorten", model, *(word for pair in options.items() for word in pair)]
    monkeypatch.setattr(sys, "argv", ["lengthwise", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    complaint = capsys.readouterr().err
    assert stopped.value.code == 2, complaint
    assert says in complaint
    assert len(complaint.strip().splitlines()) == 1, complaint
    assert not (tmp_path / "run").exists()


def test_report_of_no_run_is_refused(tmp_path: Path) -> None:
    done = run("report", tmp_path)
    assert done.returncode == 2
    assert "no config.json" in done.stderr


def test_dry_run_shows_prompt_sample_and_estimate(data: Path, tmp_path: Path) -> None:
    arguments = ["shorten", str(shipped_reasoner()), "--data", str(data), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*arguments, "--preset", "lab", "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["prompt"].endswith("?")
    assert shown["verdict"]["correct"] is True
    assert shown["estimate"]["parameters"] == 605_440
    assert not (tmp_path / "run").exists()


def test_dry_run_says_the_answer_as_an_own_pattern_reads_it(data: Path, tmp_path: Path) -> None:
    arguments = ["shorten", str(shipped_reasoner()), "--data", str(data), "--out", str(tmp_path / "run")]
    more = ["--preset", "lab", "--answer-pattern", r"A:(\d+)", "--dry-run", "--json"]
    result = CliRunner().invoke(app, [*arguments, *more])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["sample"] == f"A:{shown['gold']}"
    assert shown["verdict"] == {"correct": True, "extracted": shown["gold"], "how": "answer pattern", "error": None}


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?<=Result: )(-?\d+)",
        r"(?i)\*{2}answer\*{2}\s*[:=]\s*(?:\$\s*)?([^\n$]+?)\s*\$?$",
        r"(?m)^(?:Final|Last) answer\W+(\S+)(?=\.)",
        r"<answer>\s*(.*?)\s*</answer>",
        r"answer \((?:a|b)\) is (\d+)",
    ],
)
def test_dry_run_calls_no_sound_pattern_wrong(data: Path, tmp_path: Path, pattern: str) -> None:
    arguments = ["shorten", str(shipped_reasoner()), "--data", str(data), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(
        app, [*arguments, "--preset", "lab", "--answer-pattern", pattern, "--dry-run", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["verdict"]["correct"] is True


def test_dry_run_says_that_no_sample_could_be_made_and_judges_nothing(data: Path, tmp_path: Path) -> None:
    arguments = ["shorten", str(shipped_reasoner()), "--data", str(data), "--out", str(tmp_path / "run")]
    arguments += ["--preset", "lab", "--answer-pattern", "option ([A-E])", "--dry-run"]  # the answers are numbers
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "none: no text was found that the answer pattern reads as" in result.stdout
    assert "WRONG" not in result.stdout


def test_dry_run_counts_all_models_and_names_the_device(data: Path, tmp_path: Path) -> None:
    arguments = ["shorten", str(shipped_reasoner()), "--data", str(data), "--out", str(tmp_path / "run")]
    arguments += ["--preset", "lab", "--cap", "60", "--device", "cpu", "--dry-run"]
    for method, parts in (("dler", ("2.3", "0.0")), ("t-ppo", ("0.0", "9.2"))):  # 605,440 times 4 and 16 bytes in MiB
        lines = CliRunner().invoke(app, [*arguments, "--method", method]).stdout.splitlines()
        found = {line[:24].strip(): line[24:].split()[0] for line in lines if line.endswith(" MiB")}
        assert (found["reference model"], found["critic"]) == parts
        assert any(line.startswith("time ") and line.endswith("at the speed of this CPU") for line in lines)


@pytest.mark.parametrize("also", [["--dry-run"], []])
def test_importance_weights_that_a_loss_leaves_out_are_refused_in_one_line(
    data: Path, tmp_path: Path, also: list[str]
) -> None:
    done = run(
        "shorten", shipped_reasoner(), "--data", data, "--out", tmp_path / "run", "--preset", "lab", "--cap", "60",
        "--method", "drpo", "--truncate-importance", 2, *also,
    )  # fmt: skip
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "the loss of method 'drpo' takes no advantages" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Path]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = run(
        "shorten", shipped_reasoner(), "--data", data, "--out", folder, "--preset", "lab", "--cap", "auto",
        "--steps", 2, "--prompts", 4, "--lr", "1e-4", "--eval-limit", 12, "--eval-cap", 90, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder


def test_shorten_leaves_an_ordinary_folder_and_all_its_files(finished: tuple[dict[str, object], Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outcome, folder = finished
    for name in ("config.json", "metrics.jsonl", "outcome.json", "report.html", "report.png", "samples.json"):
        assert (folder / name).is_file(), name
    assert list((folder / "tensorboard").glob("events.*"))
    assert outcome["cap_choice"]["quantiles"]["p40"] == outcome["cap_choice"]["cap"]  # type: ignore[index]
    assert outcome["weights_sha_before"] != outcome["weights_sha_after"]
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    assert model.config.model_type == "qwen2"
    assert tokenizer("7+12?")["input_ids"] == [16, 3, 21, 2]
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_report_is_rebuilt_from_files(finished: tuple[dict[str, object], Path]) -> None:
    _, folder = finished
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    done = run("report", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "report.html").read_text() == before


@pytest.mark.slow
def test_demo_prints_one_json_object_with_the_promised_keys(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--steps", "1", "--limit", "24", "--out", str(tmp_path / "demo"), "--json"])
    assert not ended.value.code
    outcome = json.loads(capsys.readouterr().out)
    for key in ("before", "after"):
        assert {"accuracy", "mean_tokens", "truncation_rate"} <= outcome[key].keys()
    assert {"cut", "first-pass"} == outcome["controls"].keys()
    for key in ("removable_share", "weights_sha_before", "weights_sha_after", "train_seconds", "report"):
        assert key in outcome
    # The oracle of levels 2 to 7 in turn: the mean of 6 n + 3 = 6 * 4.5 + 3 = 30.
    assert outcome["oracle_tokens"] == 30.0
    assert Path(outcome["report"]).is_file()


@pytest.mark.parametrize(("saved", "said"), [(0.632, "63.2% fewer tokens"), (-2.773, "277.3% more tokens")])
def test_a_run_that_lengthens_says_more_not_minus_fewer(saved, said):
    from lengthwise.cli._console import outcome_lines

    change = SimpleNamespace(accuracy_difference=Interval(0.0, None, None, level=0.95, draws=9, dropped=0))
    outcome = SimpleNamespace(
        tokens_saved=saved, removable_share=None, difference=change, difference_greedy=change, train_seconds=1.0,
        model="m", report="r",
    )  # fmt: skip
    assert outcome_lines(outcome)[0] == f"{said} at temperature 1"


def test_the_demo_keeps_back_what_is_no_news_there_and_ends_with_commands_that_are_taken(monkeypatch, capsys, tmp_path):
    from lengthwise.cli.demo import EXPECTED, NEXT
    from lengthwise.engine.step_warnings import Watch

    usual = {"cut_rate": 0.0, "cap": 50, "uniform_groups": 0.0, "groups": 8, "groups_wanted": 8, "draws": 8,
             "reward_std": 1.0, "reward_mean": 0.5, "updates": 1, "weights_moved": 1}  # fmt: skip
    for odd in ({"cut_rate": 0.9}, {"uniform_groups": 0.9}, {"groups": 3}, {"weights_moved": 0}):
        watch = Watch()
        [text] = [text for _ in range(5) for text in watch.look({**usual, **odd})][:1]
        assert bool(re.match(EXPECTED, f"step 6: {text}")) == ("weights_moved" not in odd), text
    monkeypatch.chdir(tmp_path)
    for line in NEXT:
        with pytest.raises(SystemExit) as ended:
            main([*line.split()[1:], "--print-config"])
        assert not ended.value.code, capsys.readouterr().err


def test_version_short_help_and_completion() -> None:
    def said(*words: str, **environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "lengthwise", *words], capture_output=True, text=True, check=True,
            env=os.environ | environment,
        ).stdout  # fmt: skip

    assert said("--version") == f"lengthwise {__version__}\n"
    assert "compare-records" in said("-h")
    asked = {"_LENGTHWISE_COMPLETE": "complete_bash", "COMP_WORDS": "lengthwise gr", "COMP_CWORD": "1"}
    assert said(**asked).split() == ["grade"]
