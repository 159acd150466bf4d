"""Reading rows: every format, and one clear line for every way a file can be wrong."""

from __future__ import annotations

import builtins
import json
import sys
import types
from pathlib import Path

import pytest

from lengthwise.data import read_rows, require_columns
from lengthwise.errors import InputError, MissingExtraError

ROWS = [{"problem": "7 + 5 ?", "answer": "12"}, {"problem": "9 - 2 ?", "answer": 7}]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def without_module(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = builtins.__import__

    def refuse(module: str, *args, **options):
        if module.split(".")[0] == name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(module, *args, **options)

    for loaded in [m for m in sys.modules if m.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(builtins, "__import__", refuse)


def test_jsonl_reads_rows_in_order(tmp_path):
    path = write(tmp_path / "a.jsonl", "\n".join(json.dumps(row) for row in ROWS) + "\n")
    assert read_rows(path, columns=["problem", "answer"]) == ROWS
    assert read_rows(str(path)) == ROWS


def test_jsonl_skips_blank_lines_and_a_byte_order_mark(tmp_path):
    path = write(tmp_path / "a.jsonl", "\ufeff" + json.dumps(ROWS[0]) + "\r\n\n  \n" + json.dumps(ROWS[1]))
    assert read_rows(path) == ROWS


def test_jsonl_line_separator_inside_a_string_ends_no_row(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"problem": "one\u2028two"}')
    assert read_rows(path) == [{"problem": "one\u2028two"}]


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"data": rows}], ids=["list", "data"])
def test_json_list_or_data_object(tmp_path, wrap):
    assert read_rows(write(tmp_path / "a.json", json.dumps(wrap(ROWS)))) == ROWS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "", "is empty"),
        ("a.json", "", "is empty"),
        ("a.jsonl", "\n \n", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
        ("a.jsonl", '{"problem": 1}\n{"problem": oops}', r"line 2 is not JSON .*'\{\"problem\": oops\}'"),
        ("a.json", '[\n{"problem": oops}]', r"line 2 is not JSON .*oops"),
        ("a.jsonl", '{"problem": 1}\n[1, 2]', r"line 2: '\[1, 2\]' is a list, not an object"),
        ("a.json", "[1]", "row 1: '1' is a int, not an object"),
        ("a.json", '{"rows": []}', 'neither a list of rows nor {"data"'),
        ("a.json", "3", "neither a list of rows"),
        ("a.csv", "problem,answer", r"ends in '.csv'; the kinds read are \.jsonl, \.json, \.parquet"),
    ],
)
def test_bad_file_names_the_file_and_the_fault(tmp_path, name, text, message):
    path = write(tmp_path / name, text)
    with pytest.raises(InputError, match=message) as caught:
        read_rows(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_bad_line_is_quoted_by_its_start(tmp_path):
    with pytest.raises(InputError) as caught:
        read_rows(write(tmp_path / "a.jsonl", "x" * 5000))
    assert "'" + "x" * 60 + "...'" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_not_utf8(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"problem": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8"):
        read_rows(path)


def test_no_such_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.jsonl", str(tmp_path / "none.jsonl"), "./none.parquet", "none.json"):
        with pytest.raises(InputError, match="no such file"):
            read_rows(path)
    with pytest.raises(InputError, match="is a folder"):
        read_rows(tmp_path)


def test_missing_column_names_it_the_row_and_those_there(tmp_path):
    rows = [ROWS[0], {"question": "9 - 2 ?", "answer": "7"}]
    path = write(tmp_path / "a.json", json.dumps(rows))
    with pytest.raises(InputError, match=r"row 2: no column 'problem'; it has question, answer"):
        read_rows(path, columns=["problem", "answer"])
    with pytest.raises(InputError, match="row 1: no column 'x'; it has no columns"):
        require_columns([{}], ["x"], "memory")


@pytest.mark.parametrize("value", [None, "", "  ", []])
@pytest.mark.parametrize("column", ["problem", "answer"])
def test_empty_value_names_column_and_row(column, value):
    with pytest.raises(InputError, match=f"here, row 2: empty {column}"):
        require_columns([ROWS[0], {**ROWS[0], column: value}], ["problem", "answer"], "here")


def test_zero_and_false_are_values():
    assert require_columns([{"answer": 0}, {"answer": 0.0}], ["answer"], "here")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    without_module(monkeypatch, "pyarrow")
    path = write(tmp_path / "a.parquet", "PAR1")
    with pytest.raises(MissingExtraError, match=r'pip install "lengthwise\[parquet\]"'):
        read_rows(path)


def test_parquet_reads_rows_and_refuses_other_bytes(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [{"problem": "7 + 5 ?", "answer": 12}, {"problem": "9 - 2 ?", "answer": 7}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet", columns=["problem", "answer"]) == rows
    with pytest.raises(InputError, match="is not a Parquet file"):
        read_rows(write(tmp_path / "b.parquet", "no parquet at all"))


def fake_datasets(monkeypatch: pytest.MonkeyPatch, load_dataset) -> None:
    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("org/set:test", ("org/set", None, "test")), ("org/set:main:train", ("org/set", "main", "train"))],
)
def test_dataset_name_with_split_and_configuration(monkeypatch, name, expected):
    asked = []

    def load_dataset(path, config, *, split):
        asked.append((path, config, split))
        return iter(ROWS)

    fake_datasets(monkeypatch, load_dataset)
    assert read_rows(name, columns=["problem"]) == ROWS
    assert asked == [expected]


def test_dataset_that_cannot_be_loaded_says_why(monkeypatch):
    def load_dataset(*args, **options):
        raise ValueError("Unknown split 'tset'")

    fake_datasets(monkeypatch, load_dataset)
    with pytest.raises(InputError, match="'org/set:tset' cannot be loaded: Unknown split"):
        read_rows("org/set:tset")


def test_dataset_name_without_split_and_without_datasets(monkeypatch):
    with pytest.raises(InputError, match="write NAME:SPLIT"):
        read_rows("org/set")
    without_module(monkeypatch, "datasets")
    with pytest.raises(MissingExtraError, match=r'no file on disk; .*pip install "lengthwise\[trl\]"'):
        read_rows("org/set:test")
