"""CSV and TSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from lengthwise.errors import InputError
from lengthwise.logs.readers import Fields, recognise

ROWS: list[dict[str, Any]] = [
    {
        "problem_id": "a",
        "response": 'It is "7",\nso 7',
        "answer": "7",
        "num_tokens": 9,
        "finished": True,
        "correct": True,
    },
    {"problem_id": "b", "response": "12", "answer": "12", "num_tokens": 2, "finished": False, "correct": False},
]


def table(path: Path, rows: list[dict[str, Any]], encoding: str = "utf-8", **style: Any) -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), **style)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    "style", [{}, {"delimiter": "\t"}, {"delimiter": ";"}, {"quoting": csv.QUOTE_ALL}, {"encoding": "utf-8-sig"}]
)
def test_a_table_has_the_rows_of_json_lines(tmp_path, read, write, style):
    log = table(tmp_path / "log.csv", ROWS, **style)
    assert str(recognise(log)) == "CSV, the response in response"
    assert read(log) == read(write([row | {"answer": str(row["answer"])} for row in ROWS]))


def test_empty_cells_are_missing_and_floats_of_whole_numbers_are_counts(tmp_path, read):
    log = table(
        tmp_path / "log.csv",
        [{"response": "7", "num_tokens": "", "sample": "1"}, {"response": "8", "num_tokens": "9.0", "sample": ""}],
    )
    assert [(row.num_tokens, row.sample) for row in read(log)] == [(None, 1), (9, None)]


def test_a_cell_longer_than_the_standard_librarys_limit(tmp_path, read):
    before = csv.field_size_limit()
    (row,) = read(table(tmp_path / "log.csv", [{"response": "so " * 100_000, "answer": "7"}]))
    assert len(row.response) == 300_000 and csv.field_size_limit() == before


def test_ones_own_columns(tmp_path, read):
    log = table(tmp_path / "log.csv", [{"said": "7", "key": "7"}])
    with pytest.raises(
        InputError, match="no known format .CSV.: its first row has said, key; name the response's column"
    ):
        recognise(log)
    (row,) = read(log, fields=Fields(response="said", answer="key"))
    assert (row.response, row.answer) == ("7", "7")


def test_records_of_another_length_are_left_out(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("response,answer\n7,7\n8\n9,9,9\n7,7\n")
    reasons = [getattr(item, "reason", None) for _, item in recognise(path).rows()]
    assert reasons == [None, *["a record of another length than the head"] * 2, None]


def test_json_in_a_file_called_csv_is_json(tmp_path, read):
    path = tmp_path / "log.csv"
    path.write_text(json.dumps(ROWS[0]) + "\n")
    assert [row.problem_id for row in read(path)] == ["a"]
