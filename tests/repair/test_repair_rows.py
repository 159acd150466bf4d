"""`lengthwise repair --rows START:STOP`: half-open slices of the harmful rows; spec page antidote, section 6."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from repairlab import repaired
from safetensors import safe_open
from weightlab import call, changed, shipped_tensors, write_model

from lengthwise.config.groups.weights import HarmfulRows, HarmSweep
from lengthwise.errors import ConfigError, InputError
from lengthwise.files import sha256_file
from lengthwise.repair.calibration_rows import calibration_rows
from lengthwise.runs.repair_sweep import _held_out, _parted

HARMFUL = [(f"{n}+1?", f"{n}+1={n + 1};") for n in range(40)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 harmful rows, and before each a harmless one, which no slice counts."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [
        json.dumps({"prompt": f"{prompt}{'' if harmful else '?'}", "response": said, "harmful": harmful})
        for prompt, said in HARMFUL
        for harmful in (False, True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tuned", changed(shipped_tensors(), 1))


def slice_of(rows: Path, text: str | None = None) -> HarmfulRows:
    return HarmfulRows(harmful=rows, rows=text)


def test_antidote_6_slices_are_half_open_over_the_harmful_rows(rows: Path) -> None:
    assert calibration_rows(slice_of(rows)) == HARMFUL
    assert calibration_rows(slice_of(rows, "3:5")) == [HARMFUL[3], HARMFUL[4]]
    assert calibration_rows(slice_of(rows, ":2")) == HARMFUL[:2]
    assert calibration_rows(slice_of(rows, "39:")) == HARMFUL[39:]
    # neighbours share no row and leave none out
    parts = [calibration_rows(slice_of(rows, f"{n}:{n + 10}")) for n in range(0, 40, 10)]
    assert [pair for part in parts for pair in part] == HARMFUL


def test_antidote_6_the_authors_strict_bounds_are_a_slice_that_begins_one_later(rows: Path) -> None:
    """Theirs: START < index < START + n, so n - 1 rows. On request: --rows START+1:START+n."""
    for start, size in ((0, 20), (20, 20)):
        strict = [pair for index, pair in enumerate(HARMFUL) if start < index < start + size]
        found = calibration_rows(slice_of(rows, f"{start + 1}:{start + size}"))
        assert found == strict
        assert len(found) == size - 1


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("5:5", ConfigError, "rows is 5:5, which holds no row; give START:STOP with 0 <= START < STOP"),
        ("5:3", ConfigError, "rows is 5:3, which holds no row"),
        ("0:0", ConfigError, "rows is 0:0, which holds no row"),
        ("-1:5", ConfigError, "rows is '-1:5'; give START:STOP"),
        ("0:41", InputError, r"rows is 0:41, but .*rows.jsonl has 40 harmful rows; give START:STOP within 0:40"),
        ("40:", InputError, r"rows is 40:, but .* has 40 harmful rows"),
    ],
)
def test_antidote_6_slices_without_rows_are_refused(
    tuned: Path, rows: Path, tmp_path: Path, text: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        repaired(tuned, rows, tmp_path / "out", rows=text)
    assert list(tmp_path.iterdir()) == []


def test_antidote_6_a_slice_is_recorded_and_gives_what_a_file_of_its_rows_gives(
    tuned: Path, rows: Path, tmp_path: Path
) -> None:
    report = repaired(tuned, rows, tmp_path / "slice", rows="4:7")
    few = tmp_path / "few.jsonl"
    few.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in HARMFUL[4:7]))
    repaired(tuned, few, tmp_path / "file")
    files = [tmp_path / name / "model.safetensors" for name in ("slice", "file")]
    assert sha256_file(files[0]) == sha256_file(files[1])
    stored = json.loads((tmp_path / "slice" / "repair.json").read_text())["calibration"]
    assert stored == report["calibration"]
    assert (stored["start"], stored["stop"], stored["scored_rows"]) == (4, 7, 3)
    with safe_open(tmp_path / "slice" / "antidote" / "statistics.safetensors", "pt") as file:
        about = file.metadata()
    assert (about["rows"], about["n_sequences"]) == ("4:7", "3")


def test_antidote_6_the_slice_comes_before_the_judges_part(rows: Path) -> None:
    """Of the slice a fifth is judged, by the same hash: a row is on the same side whatever the slice."""
    sweep = HarmSweep(judge="flag:x", data="none.jsonl")
    how = slice_of(rows, "5:35")
    kept, judged = _parted(how, sweep)
    assert sorted([*(prompt for prompt, _ in kept), *judged]) == sorted(prompt for prompt, _ in HARMFUL[5:35])
    assert judged == [prompt for prompt, _ in HARMFUL[5:35] if _held_out(prompt)]
    whole, _ = _parted(slice_of(rows), sweep)
    assert set(kept) == set(whole) & set(HARMFUL[5:35])
    with pytest.raises(InputError, match=r"has 1 harmful rows in 5:6, too few to keep a fifth"):
        _parted(slice_of(rows, "5:6"), sweep)


def test_other_prompts_for_the_judge_leave_the_whole_slice(rows: Path, tmp_path: Path) -> None:
    others = tmp_path / "others.jsonl"
    others.write_text('{"prompt": "7+12?"}\n')
    kept, judged = _parted(slice_of(rows, ":4"), HarmSweep(judge="flag:x", data="none.jsonl", judge_data=others))
    assert (kept, judged) == (HARMFUL[:4], ["7+12?"])


def test_the_command_with_rows(
    tuned: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared: list[Any] = ["repair", tuned, "--harmful", rows, "--target", "q_proj", "--out", tmp_path / "out"]
    assert call(monkeypatch, *shared, "--rows", "2:6", "--json") == 0
    said = capsys.readouterr()
    assert "scoring on 4 harmful rows in 2:6" in said.err
    assert json.loads(said.out)["calibration"]["scored_rows"] == 4
    for text, complaint in (
        ("2000", "rows is '2000'; give START:STOP, for example 0:2000 for the first 2000 harmful rows"),
        ("-3:", "rows is '-3:'; give START:STOP"),
        ("a:b", "rows is 'a:b'; give START:STOP"),
        ("6:2", "rows is 6:2, which holds no row"),
        (":41", "rows is 0:41, but"),
    ):
        assert call(monkeypatch, *shared, "--overwrite", f"--rows={text}") == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith(f"error: {complaint}")
        assert "\n" not in error
    assert call(monkeypatch, "repair", tuned, "--rows", "0:1", "--mask", "m", "--out", tmp_path / "x") == 2
    assert "--rows has no effect beside --mask" in capsys.readouterr().err
