"""`lengthwise-grade`: what `lengthwise grade` runs with, and what the rest says without the training stack."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from wordlog import HAND, word_tokenizer, write_log

from lengthwise.cli import main
from lengthwise.cli._endings import TRAINING_STACK
from lengthwise.errors import InputError
from lengthwise.logs import token_breakdown
from lengthwise.logs.token_breakdown import Counter, load_words

ROOT = Path(__file__).parents[1]
REFUSED = (*TRAINING_STACK, "tokenizers", "huggingface_hub", "datasets", "pandas", "scipy")
BLOCKER = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {REFUSED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
"""
REPORT = """
import sys
from lengthwise.cli import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    assert not left.code, left.code
print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)))
"""
UNDERNEATH = {
    "PIL", "annotated_doc", "annotated_types", "cycler", "cython_runtime", "dateutil", "fontTools", "kiwisolver",
    "markdown_it", "markupsafe", "mdurl", "mpl_toolkits", "packaging", "pydantic_core", "pygments", "pyparsing",
    "shellingham", "six", "typing_extensions", "typing_inspection", "latex2sympy2_extended", "mpmath", "sympy",
}  # fmt: skip
"""What the dependencies of `lengthwise-grade` bring themselves."""


def dependencies(folder: Path) -> dict[str, str]:
    listed = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
    return {text.partition(">=")[0]: text for text in listed}


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which every process, workers too, refuses the training stack."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "sitecustomize.py").write_text(BLOCKER)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")])}


def test_a_log_is_graded_to_the_report_without_the_training_stack(light: dict[str, str], tmp_path: Path) -> None:
    log, report = write_log(tmp_path / "log.jsonl", HAND), tmp_path / "r.html"
    written = ["--report", report, "--out", tmp_path / "graded.jsonl", "--record", tmp_path / "record.json"]
    arguments = [sys.executable, "-c", REPORT, "grade", log, "--cap", "20", *written]
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, env=light, check=False)
    assert done.returncode == 0, done.stderr
    assert "33.3% right on 3 problems (6 responses), 7.7 tokens a response." in done.stdout
    assert "<h2>Accuracy at a budget</h2>" in report.read_text()
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert not loaded & set(REFUSED)
    ours = {name.replace("-", "_").lower() for name in dependencies(ROOT / "packaging/lengthwise-grade")} | {"yaml"}
    third_party = {name for name in loaded if not name.startswith("_")} - UNDERNEATH - {"lengthwise", "sitecustomize"}
    assert third_party <= ours, third_party - ours


def test_the_help_of_grade_loads_neither_numpy_nor_plots(light: dict[str, str]) -> None:
    arguments = [sys.executable, "-c", REPORT, "grade", "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, env=light, check=True)
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert not loaded & {"numpy", "matplotlib", "sympy", "jinja2", "math_verify"}


def test_the_light_distribution_asks_for_no_more_than_the_whole() -> None:
    whole, part = dependencies(ROOT), dependencies(ROOT / "packaging/lengthwise-grade")
    assert part.pop("tokenizers").startswith("tokenizers>=")  # transformers brings it to the whole
    assert part.items() <= whole.items()
    assert {name.replace("-", "_") for name in whole.keys() - part.keys()} == set(TRAINING_STACK)


def test_a_command_that_needs_the_training_stack_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lengthwise.runs.evaluate", None)
    monkeypatch.setattr("lengthwise.cli._endings.TRAINING_STACK", ("lengthwise.runs.evaluate",))
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "model", "--data", "nowhere.jsonl"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: this needs lengthwise.runs.evaluate, which lengthwise-grade leaves out; pip install lengthwise"
    ]


def test_a_tokenizer_is_read_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = word_tokenizer(tmp_path / "words")
    with_it = load_words(folder)
    monkeypatch.setattr(token_breakdown, "find_spec", lambda name: None)
    words = load_words(folder)
    assert words.name == "tokenizer.json/3"
    for text in ("word word <eos>", "word"):
        assert Counter(words)(text) == Counter(with_it)(text)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as a tokenizer"):
        load_words(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"no tokenizer\.json with words in it"):
        load_words(folder)
    with pytest.raises(InputError, match="no such folder"):
        load_words(tmp_path / "nowhere")
