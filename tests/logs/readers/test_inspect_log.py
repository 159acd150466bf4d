"""inspect's logs, as inspect wrote them, in both of its forms."""

from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lengthwise.errors import InputError, MissingExtraError
from lengthwise.logs.readers import End, recognise

WROTE = "inspect-0.3.285"


@pytest.fixture
def log(files: Path) -> Path:
    return files / WROTE / "sums.json"


@pytest.fixture
def whole(log: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(log.read_text())
    return found


def archive(path: Path, whole: dict[str, Any], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """The log as versions before zstandard packed it."""
    with zipfile.ZipFile(path, "w", method) as packed:
        for sample in whole["samples"]:
            packed.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        packed.writestr("header.json", json.dumps({name: one for name, one in whole.items() if name != "samples"}))
    return path


def changed(tmp_path: Path, whole: dict[str, Any], **sample: Any) -> Path:
    whole = copy.deepcopy(whole)
    whole["samples"] = [whole["samples"][0] | sample]
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(whole, indent=1))
    return path


def test_epochs_are_samples(log, read):
    rows = read(log)
    expected = [(problem, epoch) for epoch in (1, 2, 3) for problem in ("sums/apples", "sums/pens")]
    assert [(row.problem_id, row.sample) for row in rows] == expected


def test_an_archive_of_either_packing_has_the_same_rows(log, files, read, whole, tmp_path):
    rows = read(log)
    old = archive(tmp_path / "old.eval", whole)
    assert str(recognise(old)) == "an inspect log, 3 epochs, 2 problems"
    assert read(old) == rows
    pytest.importorskip("zstandard")
    assert read(files / WROTE / "*.eval") == rows


def test_the_packing_of_today_names_the_extra_it_needs(files, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"needs zstandard; install it with: .*lengthwise\[zstd\]"):
        recognise(files / WROTE / "*.eval")


def test_thinking_stands_in_parts_of_its_own(log, read):
    pens = read(log)[1]
    assert pens.response == "The answer is 12" and pens.reasoning.startswith("Let me count the pens")
    assert (pens.num_tokens, pens.reasoning_tokens) == (110, 100)


def test_hidden_thinking_gives_its_summary_and_a_note(log, read):
    row = read(log)[5]
    assert (row.reasoning, row.reasoning_tokens) == ("six times two", 48)
    assert row.notes == ("the thinking is hidden; its summary is read",)


def test_stop_reasons(log, read):
    ends = [(row.finish_reason, row.end, row.finished) for row in read(log)]
    assert ends[2] == ("max_tokens", End.CUT, False)
    assert ends[3] == ("unknown", End.UNKNOWN, None)
    assert ends[4] == ("model_length", End.CUT, False)


def test_several_targets_are_alternatives_and_every_scorer_has_its_verdict(log, read):
    apples, pens = read(log)[:2]
    assert (apples.answer, apples.any_of) == ("7", False)
    assert (pens.answer, pens.any_of) == (["12", "twelve"], True)
    assert apples.verdicts == {"match": 1.0, "includes": 1.0} and read(log)[2].verdicts == {
        "match": 0.0,
        "includes": 0.0,
    }


def test_texts_kept_apart_are_put_back(whole, tmp_path, read):
    output = copy.deepcopy(whole["samples"][0]["output"])
    output["choices"][0]["message"]["content"] = "attachment://1f"
    path = changed(
        tmp_path, whole, output=output, input="attachment://2e", attachments={"1f": "it is 7", "2e": "3 + 4?"}
    )
    (row,) = read(path)
    assert (row.response, row.problem) == ("it is 7", "3 + 4?")


def test_a_sample_that_failed_is_no_empty_answer(whole, tmp_path):
    path = changed(tmp_path, whole, error={"message": "out of memory"})
    with pytest.raises(InputError, match=r"an inspect log.*the sample failed \(out of memory\)"):
        recognise(path)


def test_scorers_with_several_values_and_odd_ones(whole, tmp_path, read):
    scores = {"judge": {"value": {"clear": 0.5, "right": True}}, "half": {"value": "P"}, "words": {"value": "well"}}
    (row,) = read(changed(tmp_path, whole, scores=scores))
    assert row.verdicts == {"judge.clear": 0.5, "judge.right": 1.0, "half": 0.5}


def test_of_an_agent_the_last_answer_is_read_and_a_note_says_so(whole, tmp_path, read):
    messages = [
        {"role": "assistant", "content": "a"},
        {"role": "tool", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    (row,) = read(changed(tmp_path, whole, messages=messages))
    assert "last of several answers" in row.notes[0]


def test_two_runs_of_a_task_are_not_mixed(log, whole, tmp_path):
    with pytest.raises(InputError, match="inspect logs of two runs of the task 'sums'; name the files of one run"):
        recognise([log, archive(tmp_path / "again.eval", whole)])


def test_a_torn_archive_and_a_torn_document_are_one_line_each(log, whole, tmp_path):
    torn = archive(tmp_path / "torn.eval", whole)
    torn.write_bytes(torn.read_bytes()[:-100])
    with pytest.raises(InputError, match="torn.eval cannot be read: no whole zip archive"):
        recognise(torn)
    half = tmp_path / "half.json"
    half.write_text(log.read_text()[: log.stat().st_size // 2])
    items = [item for _, item in recognise(half).rows()]
    assert items[-1].reason == "damaged inspect log" and len(items) > 1
    other = tmp_path / "other.eval"
    with zipfile.ZipFile(other, "w") as packed:
        packed.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match="other.eval is a log of no known format .zip archive.: it holds readme.txt"):
        recognise(other)
