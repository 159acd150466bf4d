"""Flags out of settings: what help shows, flags over the file over defaults, one line for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pytest
import typer
from typer.testing import CliRunner

from lengthwise.cli._endings import ending
from lengthwise.cli._settings_flags import add_command
from lengthwise.config import files, renames
from lengthwise.config.command import Command
from lengthwise.config.commands import COMMANDS
from lengthwise.config.definition import group, setting
from lengthwise.config.settings import Settings


class Oven(Settings):
    panel = "Training"
    heat: int = setting(180, ge=1, help="Degrees [of Celsius] in <oven>.")
    minutes: float = setting(30.0, gt=0, help="Minutes.")
    fan: bool = setting(False, help="Let the air move.")
    rest: int | None = setting(None, ge=1, help="Minutes of rest.", default_text="until it is cold")


class BakeSettings(Command):
    """Bake DOUGH: heat, bake, rest."""

    command = "bake"
    examples = ("lengthwise bake dough --heat 200", "lengthwise bake --config run.yaml --fan")
    refused = MappingProxyType({"--grill": "would burn it"})

    dough: str = setting(help="What is baked.", positional=True, metavar="DOUGH", panel="Model")
    topping: tuple[str, ...] = setting((), help="What is put on it.", panel="Data and prompt")
    shares: tuple[float, ...] | None = setting(None, commas=True, help="Shares.", panel="Data and prompt")
    form: Literal["round", "square"] = setting("round", help="Form.", panel="Method")
    oven: Oven = group(Oven)
    lambda_: bool = setting(False, help="A word of Python's.", panel="Output")
    out: Path = setting(help="Folder.", panel="Output", transient=True)


@pytest.fixture
def bake(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Run the command as our own `main` does; exit code, stdout and stderr."""
    monkeypatch.setattr(renames, "RENAMES", (renames.Renamed("--degrees", "--heat", ("bake",)),))
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode="rich")
    app.callback()(lambda: None)
    add_command(app, BakeSettings, lambda settings: typer.echo(json.dumps(settings.to_dict())))

    def run(*arguments: object) -> tuple[int, str, str]:
        def work() -> None:
            command = typer.main.get_command(app)
            with command.make_context("lengthwise", ["bake", *map(str, arguments)]) as context:
                command.invoke(context)

        code = ending(work)
        return code, *capsys.readouterr()

    run.app = app  # type: ignore[attr-defined]
    return run


def values(bake, *arguments: object) -> dict:
    code, shown, complaints = bake(*arguments)
    assert (code, complaints) == (0, "")
    return json.loads(shown)


def refusal(bake, *arguments: object) -> str:
    code, shown, complaints = bake(*arguments)
    assert (code, shown) == (2, "")
    assert complaints.startswith("error: ")
    assert complaints.count("\n") == 1
    return complaints.removeprefix("error: ").rstrip("\n")


def test_defaults_and_flags_of_every_type(bake):
    assert values(bake, "rye", "--out", "o") == {
        "dough": "rye", "topping": [], "shares": None, "form": "round", "heat": 180, "minutes": 30.0, "fan": False,
        "rest": None, "lambda": False, "out": "o",
    }  # fmt: skip
    found = values(
        bake, "rye", "--out", "o", "--topping", "a,b", "--topping", "c", "--shares", "0.5, 1e-3", "--form", "square",
        "--heat", "+200", "--minutes", "2", "--fan", "--rest", "none", "--lambda",
    )  # fmt: skip
    assert (found["topping"], found["shares"], found["form"], found["heat"]) == (
        ["a,b", "c"],
        [0.5, 1e-3],
        "square",
        200,
    )
    assert (found["minutes"], found["fan"], found["rest"], found["lambda"]) == (2.0, True, None, True)


def test_flags_win_over_the_file_and_the_file_over_defaults(bake, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("dough: rye\nout: o\nheat: 200\nrest: 5\noven: {fan: true, minutes: 9}\ntopping: [salt]\n")
    found = values(bake, "--config", file, "--heat", "180", "--no-fan", "--rest", "none")
    assert (found["heat"], found["fan"], found["rest"]) == (180, False, None)  # a default that was given wins, too
    assert (found["dough"], found["minutes"], found["topping"], found["form"]) == ("rye", 9.0, ["salt"], "round")
    assert values(bake, "wheat", "--config", file, "--topping", "oil")["topping"] == ["oil"]


def test_print_config_is_read_back_as_the_same(bake, tmp_path):
    given = ("rye", "--out", "o", "--minutes", 0.1 + 0.2, "--topping", "off", "--topping", "3", "--lambda")
    code, shown, _ = bake(*given, "--print-config")
    (tmp_path / "run.yaml").write_text(shown)
    assert code == 0
    assert shown.startswith("command: bake\n\n# Model\ndough: rye\n")
    assert values(bake, "--config", tmp_path / "run.yaml") == values(bake, *given)


def test_a_run_folder_is_a_config(bake, tmp_path):
    settings = BakeSettings.from_dict({"dough": "rye", "out": "there", "heat": 7})
    (tmp_path / "config.json").write_text(json.dumps(files.run_config(settings, environment={"heat": 1})))
    assert values(bake, "--config", tmp_path, "--out", "here")["heat"] == 7
    assert refusal(bake, "--config", tmp_path) == "out is not given; give --out (Folder)"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--out", "o"], "dough is not given; name DOUGH (What is baked)"),
        (["rye", "--out", "o", "--heat", "x"], "heat is 'x'; give a whole number"),
        (["rye", "--out", "o", "--heat", "0"], "heat is 0; give at least 1"),
        (["rye", "--out", "o", "--minutes", "nan"], "minutes is nan; give a finite number"),
        (["rye", "--out", "o", "--form", "oval"], "form is 'oval'; choose round or square"),
        (["rye", "--out", "o", "--heta", "1"],
         "--heta is no flag of bake; did you mean --heat or --rest? `lengthwise bake --help` lists them"),
        (["rye", "--out", "o", "--degrees", "1"], "--degrees is now --heat"),
        (["rye", "--out", "o", "--grill"], "--grill would burn it"),
        (["rye", "--config", "none.yaml"], "config is 'none.yaml': No such file or directory; give a YAML or JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(bake, arguments, wanted):
    assert refusal(bake, *arguments).startswith(wanted)


def test_what_the_parser_itself_refuses_is_one_line(bake):
    assert "requires an argument" in refusal(bake, "rye", "--heat")
    assert "unexpected extra argument" in refusal(bake, "rye", "wheat")


def test_a_files_error_names_its_line_and_a_flags_error_does_not(bake, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("dough: rye\nheat: 0\nout: o\n")
    assert refusal(bake, "--config", file) == f"{file}, line 2: heat is 0; give at least 1"
    assert refusal(bake, "--config", file, "--heat", "-1") == "heat is -1; give at least 1"
    file.write_text("degrees: 3\n")
    assert refusal(bake, "--config", file) == f"{file}, line 1: degrees is now heat"


def test_help_has_panels_defaults_and_two_examples(bake):
    text = CliRunner().invoke(bake.app, ["bake", "--help"], env={"COLUMNS": "120"}).output
    assert "Bake DOUGH: heat, bake, rest." in text
    for word in ("Data and prompt", "Method", "Training", "Output", "--no-fan", "round|square", "Default: 180."):
        assert word in text
    assert "Degrees [of Celsius] in <oven>." in text
    assert "Default: until it is cold." in text
    assert "Repeat as needed." in text
    assert "--config" in text
    assert "--degrees" not in text
    lines = [line.strip() for line in text.splitlines()]
    place = lines.index("Examples:")
    assert tuple(lines[place + 1 : place + 3]) == BakeSettings.examples


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_made_of_its_settings(name):
    app = typer.Typer(rich_markup_mode="rich")
    app.callback()(lambda: None)
    add_command(app, COMMANDS[name], lambda settings: None)
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "140"})
    assert shown.exit_code == 0
    for entry in COMMANDS[name].entries().values():
        assert (entry.facts.metavar if entry.facts.positional else entry.flag) in shown.output, entry.key
