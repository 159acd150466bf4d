"""How commands end: help as it is written, one line for every error of a user, quiet where the reader has gone."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import typer
from flags import taken
from typer.testing import CliRunner

from lengthwise.cli import COMMANDS, app, main
from lengthwise.cli._console import out, quiet
from lengthwise.cli._endings import ending
from lengthwise.config.commands import COMMANDS as SETTINGS
from lengthwise.files import PARTIAL
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import METHODS

RUN = "from lengthwise.cli import main; main()"


def flat(text: str) -> str:
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def ended(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0), capsys.readouterr().err


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code, said = ended(capsys, *arguments)
    assert code == 2, said
    assert said.startswith("error: ") and len(said.strip().splitlines()) == 1, said
    return said


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_word_as_it_is_written(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "500"})
    assert shown.exit_code == 0
    page = flat(shown.stdout)
    about = SETTINGS[name].help()
    for text in (about, *(part for one in taken(name) for part in (one.word, one.help))):
        assert flat(str(text)) in page, text


def test_no_words_at_all_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert "compare-records" in shown.out and shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "No such command 'nope' (see lengthwise --help)"),
        (["shortn"], "Did you mean 'shorten'?"),
        (["shorten", "--bogus"], "--bogus is no flag of shorten; did you mean"),
        (["demo", "--steps", "many"], "steps is 'many'; give a whole number"),
        (["shorten"], "model is not given; name MODEL"),
        (["demo", "--out"], "'--out' requires an argument"),
        (["shorten", "a\udcff"], "the argument 'a\\udcff' is not UTF-8"),
    ],
)
def test_what_the_parser_refuses_is_one_line(capsys, arguments, says) -> None:
    assert says in refused(capsys, *arguments)


@pytest.mark.parametrize("name", ["dlre", "no-such-thing"])
def test_an_unknown_method_comes_with_the_list_of_all(capsys, tmp_path, name) -> None:
    said = refused(capsys, "shorten", shipped_reasoner(), "--data", "x", "--out", tmp_path / "a", "--method", name)
    assert ", ".join(sorted(METHODS)) in said
    assert ("did you mean" in said) is (name == "dlre")


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "lab:chains"],
        ["evaluate", "--endpoint", "http://localhost:1/v1", "m", "--cap", "9"],
        ["shorten", "lab:chains"],
        ["shorten", "lab:chains", "--dry-run"],
        ["compare", "lab:chains", "--methods", "grpo", "--preset", "lab"],
        ["export", "trl", "lab:chains", "--cap", "40"],
    ],
    ids=" ".join,
)
def test_missing_data_is_told_before_anything_of_the_model(capsys, tmp_path, arguments) -> None:
    said = refused(capsys, *arguments, "--data", tmp_path / "missing.jsonl", "--out", tmp_path / "run")
    assert "no such file" in said and "template" not in said


def test_a_lab_model_under_a_preset_with_a_chat_template_names_its_own_preset(capsys, tmp_path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"problem": "1+2?", "answer": "3"}\n')
    said = refused(capsys, "evaluate", "lab:chains", "--data", tmp_path / "rows.jsonl", "--out", tmp_path / "run")
    assert "give --preset lab" in said


def raises(error: BaseException):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b"), 2, "error: a/b: No such file; check the path"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", f"a/{PARTIAL}77-x.html"), 2, "error: a/x.html: Not a"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), 2, "error: b: Invalid cross-device link"),
        (OSError("odd"), 2, "error: OSError: odd; "),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 1, "no space left while writing a/b"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "not UTF-8 (invalid start byte"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "ordinal"), 2, "'é' cannot be written as ascii"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 2, "error: BrokenPipeError: Broken pipe"),
        (KeyboardInterrupt(), 130, "give the same command again"),
        (typer.Exit(7), 7, ""),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_every_error_of_the_system_is_one_line(capsys, error, code, says) -> None:
    assert ending(raises(error)) == code
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == bool(says)


def test_an_error_of_our_own_making_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        ending(raises(KeyError("a bug")))


def test_a_path_with_brackets_is_shown_whole(capsys) -> None:
    out.print("report: runs[a]/report.html :smile:")
    assert capsys.readouterr().out == "report: runs[a]/report.html :smile:\n"


def started(*arguments: object, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, arguments)], text=True, stderr=subprocess.PIPE, **options
    )


def test_a_reader_that_leaves_is_no_error() -> None:
    process = started("methods", stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()  # nobody reads at all
    assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_under_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        process = started("methods", stdout=full)
        said = process.communicate(timeout=120)[1]
    assert said.startswith("error: no space left while writing the output") and len(said.splitlines()) == 1
    assert process.returncode == 1


def test_what_a_narrow_encoding_cannot_show_is_escaped() -> None:
    code = f"from lengthwise.cli import main; from lengthwise.cli import _console; {SHOW}"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "caf\\xe9" in done.stdout


SHOW = """
import typer
from lengthwise.cli import app
@app.command('show')
def show() -> None: _console.out.print('caf\\u00e9')
main(['show'])
"""


def test_ctrl_c_is_one_line_and_130(tmp_path: Path) -> None:
    process = started("demo", "--steps", 1, "--limit", 8, "--out", tmp_path / "run", stdout=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.readline()  # it has begun
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1].startswith("stopped; give the same command again")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "error: out of memory; take fewer rows at once, or a smaller model; give the same command"),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nMore."),
            "error: out of memory (CUDA out of memory.); take fewer",
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "error: out of memory ([enforce"),
        (RuntimeError("CUDA error: device lost\nCompile with"), "error: the device failed (CUDA error: device lost);"),
    ],
)
@pytest.mark.parametrize("silent", [False, True])
def test_memory_and_devices_that_give_out_are_one_line(
    capsys: pytest.CaptureFixture[str], error: Exception, said: str, silent: bool
) -> None:
    def work() -> None:
        raise error

    with quiet() if silent else nullcontext():
        assert ending(work) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(said) and len(shown.splitlines()) == 1


def test_an_error_of_ours_is_shown_whole() -> None:
    def work() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        ending(work)
