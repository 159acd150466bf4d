"""Settings in files: read as YAML 1.2 says, what is wrong is one line with its place, nothing is executed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml

from lengthwise.config import files, yaml_text
from lengthwise.config.commands.evaluation import EvaluateSettings
from lengthwise.config.commands.training import ShortenSettings
from lengthwise.errors import ConfigError

GIVEN = {"model": "m", "data": "d", "out": "o"}


def file(folder: Path, text: str, name: str = "run.yaml") -> Path:
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    return folder / name


def refusal(path: Path, kind=ShortenSettings) -> str:
    with pytest.raises(ConfigError) as caught:
        files.merged(kind, files.load(path), {})
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text.replace(str(path.parent) + "/", "")


def test_defaults_then_the_file_then_the_flags(tmp_path):
    path = file(tmp_path, "model: m\ndata: d\nout: o\nsteps: 5\ntraining:\n  lr: 1e-5\n  seed: 2\n")
    found = files.merged(ShortenSettings, files.load(path), {"seed": 3})
    assert (found.training.steps, found.training.lr, found.training.seed, found.training.prompts) == (5, 1e-5, 3, 16)
    assert files.merged(ShortenSettings, None, GIVEN).training.steps == 200


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: 1\na: 2\n", "run.yaml, line 2: a is given twice; leave one of them out"),
        ("training:\n  lr: 1\n  lr: 2\n", "run.yaml, line 3: lr is given twice; leave one of them out"),
        ("steps: 3\ntraining:\n  steps: 4\n", "given twice, by itself and in a group"),
        ("steps: &x 3\n", "run.yaml, line 1: x is an anchor, which is not taken; write the value out"),
        ("steps: *x\n", "run.yaml, line 1: x is an anchor, which is not taken; write the value out"),
        ("\nsteps: !!python/object/apply:os.system ['true']\n", "run.yaml, line 2: tag:yaml.org,2002:python/object"),
        ("- 1\n", "run.yaml: no table of settings in it"),
        ("", "run.yaml: no table of settings in it"),
        ("steps: " + "1" * 5000, "run.yaml, line 1: steps is "),
        ("just words\n", "run.yaml: no table of settings in it"),
        ("a: [1\n", "run.yaml, line 2: no YAML: "),
        ("a: b: c\n", "run.yaml, line 1: no YAML: mapping values are not allowed here"),
        ("x: 1\n\ttab: 2\n", "run.yaml, line 2: no YAML: "),
        ("x: \x00\n", "run.yaml, line 1: no YAML: a character that is not allowed"),
        ("a: 1\n---\nb: 2\n", "run.yaml, line 2: a second document begins; give one"),
        ("1: 2\n", "run.yaml, line 1: 1 is no name of a setting"),
        ("x: " + "[" * 5000 + "]" * 5000, "run.yaml, line 1: tables and lists lie too deep in each other"),
        ("\n\nsteps: 0\n", "run.yaml, line 3: steps is 0; give at least 1"),
        ("training:\n  group_size: 1\n", "run.yaml, line 2: group_size is 1; give at least 2; a group of one"),
        ("model: m\nstesp: 3\n", "run.yaml, line 2: stesp is no setting of shorten; did you mean steps"),
        ("micro_tokens: 3\n", "run.yaml, line 1: micro_tokens is now micro_batch_tokens"),
        ("think: true\n", "run.yaml, line 1: think is True; choose one of auto, yes, no, marks"),
        ("command: compare\n", "run.yaml, line 1: command is compare, but this is shorten"),
        ("command: 3\n", "run.yaml: command is 3; give the name of a command"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_with_its_place(tmp_path, text, wanted):
    assert wanted in refusal(file(tmp_path, text))


def test_a_short_file_never_stands_for_a_long_one(tmp_path):
    bomb = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(40))
    assert "line 1: a is an anchor" in refusal(file(tmp_path, bomb))
    assert "too large to be settings" in refusal(file(tmp_path, "#" * (files.LARGEST + 1)))


def test_json_is_as_strict(tmp_path):
    assert refusal(file(tmp_path, '{"a": 1,\n "a": 2}', "run.json")) == (
        "run.json, line 2: a is given twice; leave one of them out"
    )
    assert refusal(file(tmp_path, '{"a": {"x": 1}, "b": {\n"x": 2,\n"x": 3}}', "run.json")).startswith(
        "run.json, line 3: x is given twice"
    )
    assert refusal(file(tmp_path, "{\n", "run.json")).startswith("run.json, line 2: no JSON: ")
    assert "too deep" in refusal(file(tmp_path, "[" * 100_000, "run.json"))
    assert "thousands of digits" in refusal(file(tmp_path, '{"steps": ' + "1" * 5000 + "}", "run.json"))
    assert refusal(file(tmp_path, '{\n"steps": 0}', "run.json")) == "run.json, line 2: steps is 0; give at least 1"


def test_a_path_that_is_no_file_of_settings(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.yaml")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8 text" in refusal(tmp_path / "bytes")
    with pytest.raises(ConfigError, match="a folder without config.json"):
        files.load(tmp_path)
    assert "it is a model's" in refusal(file(tmp_path, '{"model_type": "qwen2"}', "config.json"))


def test_a_run_folder_gives_its_settings_back(tmp_path):
    found = ShortenSettings.from_dict({**GIVEN, "lr": 0.1 + 0.2, "overwrite": True, "option": {"alpha": 1 / 3}})
    file(tmp_path, json.dumps(files.run_config(found, resolved={"cap": 3}, environment={"steps": 9})), "config.json")
    for path in (tmp_path, tmp_path / "config.json"):
        back = files.merged(ShortenSettings, files.load(path), {"out": "p", "seed": 4})
        assert back == found.replace(out=Path("p"), seed=4, overwrite=False)
    with pytest.raises(ConfigError, match="^out is not given; give --out"):
        files.merged(ShortenSettings, files.load(tmp_path), {})
    with pytest.raises(ConfigError, match="command is shorten, but this is evaluate"):
        files.merged(EvaluateSettings, files.load(tmp_path), {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6), ("1.0e-06", 1e-6), (".5", 0.5), ("5.", 5.0), ("+3", 3), ("010", 10), ("1_000", "1_000"),
        ("10:20", "10:20"), ("0:2000", "0:2000"), ("no", "no"), ("off", "off"), ("yes", "yes"), ("True", True),
        ("~", None), ("null", None), ("2024-01-01", "2024-01-01"), ("<<", "<<"), ('"3"', "3"), ("'off'", "off"),
        ("[1, a, [2]]", [1, "a", [2]]), ("1e", "1e"), ("e1", "e1"), ("-", None),
    ],
)  # fmt: skip
def test_words_and_numbers_are_those_of_yaml_1_2(text, value):
    if text == "-":
        assert yaml_text.read("a:\n-\n")[0] == {"a": [None]}
    else:
        assert yaml_text.read(f"a: {text}\n")[0] == {"a": value}


TEXTS = [
    "", " ", "a b", " a", "a ", "off", "Yes", "null", "~", "3", "1e-6", "0x10", "1:2", "- a", "# a", "a #b", "a: b",
    "*a", "&a", "!a", "{problem}", "[x]", "'", '"', "\\", "a\nb", "\ttab", "é", "😀",
    "\x7f", "\x85", "\u2028", "\ufeff",
    "%a", "@a", "`a`", ".inf", ".5", "./x", "/a/x", "n", "=", "<<", "\ud800", "lab:chains", "---", "...", "2024-01-01",
    "a,b",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives(text):
    for value in (text, [text, text], [[text]]):
        written = f"a: {yaml_text.write(value)}\n"
        assert yaml_text.read(written)[0] == {"a": value}
        if "\ud800" not in text:
            assert yaml.safe_load(written) == {"a": value}, "an ordinary YAML program reads something else"


def test_any_number_survives_to_the_last_bit():
    drawn = random.Random(0)
    numbers = [drawn.uniform(-1, 1) * 10.0 ** drawn.randint(-300, 300) for _ in range(500)]
    for number in [*numbers, 0.0, -0.0, 5e-324, 1e22, 1e-6, float("inf"), -float("inf"), 2**70, -1]:
        written = f"a: {yaml_text.write(number)}\n"
        found = yaml_text.read(written)[0]["a"]
        assert (found, type(found)) == (number, type(number))
        assert yaml.safe_load(written)["a"] == number
