"""The commands of README and documentation: all are accepted as they stand, those of Start and Do run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from evaluate_command import write_rows

from lengthwise.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("start", "where-tokens-go", "train-or-budget", "merge-and-repair", "read-longer")
"""Pages whose commands are run, one after another in one folder."""
NOT_RUN = ("doctor", "NAME", "rows.jsonl", "guarded/", "lengthwise.lab.teach", "documents.jsonl", "reader-2")
"""What has tests of its own, a server, the reader's own files, minutes of teaching, an extra."""
SMALL = {
    "demo": {"--steps": "1", "--limit": "4"},
    "evaluate": {"--limit": "4", "--samples": "2", "--cap": "60"},
    "evaluate-context": {"--limit": "1", "--lengths": "256"},
    "shorten": {"--cap": "40", "--steps": "1", "--prompts": "2", "--group-size": "2", "--eval-limit": "2"},
}
"""What makes a command small. A budget is made smaller where there is one."""


@dataclass(frozen=True)
class Shown:
    """A command of a page, and whether the page shows that it is refused."""

    page: str
    words: tuple[str, ...]
    refused: bool

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"[:100]


def shown(page: Path) -> list[Shown]:
    """The commands in the blocks of a page; after a `$` where a block has output as well."""
    found = []
    for block in re.findall(r"^ *```\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.M | re.S):
        lines = re.sub(r"\\\n\s*", " ", block).splitlines()
        prompted = any(line.lstrip().startswith("$ ") for line in lines)
        for line, after in zip(lines, [*lines[1:], ""], strict=True):
            text = line.strip().removeprefix("$ ") if line.lstrip().startswith("$ ") or not prompted else ""
            text = text.removeprefix(".venv/bin/").partition(" > ")[0] if ">" not in text[-12:] else text
            if re.match(r"(lengthwise|python) [a-z-]", text):
                words = tuple(shlex.split(text, comments=True))
                found.append(Shown(page.stem, words, after.startswith("error:")))
    return found


BEFORE = {"merge-and-repair": [Shown("start", ("lengthwise", "demo", "--out", "runs/demo"), refused=False)]}
EVERY = [each for page in PAGES for each in shown(page)]
LENGTHWISE = [each for each in EVERY if each.words[0] == "lengthwise" and not {"--config", "--help"} & {*each.words}]


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(words)
    return 0 if end.value.code is None else int(str(end.value.code))


@pytest.mark.parametrize("each", dict.fromkeys(LENGTHWISE), ids=str)
def test_a_command_is_accepted_as_it_stands(each: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    given = [word for word in each.words[1:] if word != "..."]
    code = ended(*given) if "--print-config" in given else ended(*given, "--print-config")
    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", RUN)
def test_the_commands_of_a_page_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("train.jsonl", "test.jsonl"):
        write_rows(tmp_path / file, 20)
    Path("LOG").write_text('{"response": "A:3", "answer": "3", "problem": "1+2?", "num_tokens": 2}\n')
    page = [*BEFORE.get(name, ()), *shown(ROOT / "docs" / f"{name}.md")]
    chosen = [each for each in page if not any(no in word for word in each.words for no in NOT_RUN)]
    for each in chosen:
        words = small(each.words)
        if words[0] == "python":
            made = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=True)
            Path("book.txt").write_text(made.stdout)  # only the story's page prints
        else:
            assert ended(*words[1:]) == (2 if each.refused else 0), f"{each}\n{capsys.readouterr().err}"
    assert len(chosen) >= 3


def small(words: tuple[str, ...]) -> tuple[str, ...]:
    """The command on the lab's own model, with few problems and steps."""
    given = [{"MODEL": "lab:chains", "2048": "20"}.get(word, word).replace("* 2000", "* 100") for word in words]
    if words[0] != "lengthwise":
        return tuple(given)
    less = dict(SMALL.get(words[1], {}))
    if words[1] in ("evaluate", "shorten"):
        less["--preset"] = "lab"
    if "--budget" in given:
        less["--budget"] = "20"
    for flag, value in less.items():
        if flag in given:
            given[given.index(flag) + 1] = value
        else:
            given += [flag, value]
    return tuple(given)
