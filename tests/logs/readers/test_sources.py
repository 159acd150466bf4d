"""Where logs lie: files, folders, patterns, standard input, and compressed."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.logs.readers import recognise
from lengthwise.logs.readers.sources import find_sources

ROWS = [{"problem_id": n, "response": f"it is {n} " * 50, "answer": n} for n in range(20)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def ids(log: Any) -> list[str]:
    return [item.problem_id for _, item in recognise(log).rows() if not isinstance(item, Defect)]


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def zstd(data: bytes) -> bytes:
    packed: bytes = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    return packed


def test_a_folder_is_read_in_the_natural_order_of_its_files(tmp_path):
    for name in ("10.jsonl", "2.jsonl", "sub/1.jsonl", ".hidden/0.jsonl", "notes.txt"):
        put(tmp_path / name, TEXT)
    assert [Path(one.name).name for one in find_sources(tmp_path)] == ["2.jsonl", "10.jsonl", "1.jsonl"]


def test_patterns_several_and_the_same_file_twice(tmp_path):
    paths = [put(tmp_path / f"{n}.jsonl", TEXT) for n in (1, 2, 11)]
    assert [one.path for one in find_sources(str(tmp_path / "*1.jsonl"))] == [paths[0], paths[2]]
    assert [one.path for one in find_sources([paths[1], paths[0], paths[1]])] == [paths[1], paths[0]]
    odd = put(tmp_path / "a[1].jsonl", TEXT)
    assert [one.path for one in find_sources(str(odd))] == [odd]  # a name with marks of a pattern is a name first


MISSING = [
    ("nothing.jsonl", "no such file: .*nothing.jsonl; check the path"),
    ("*.jsonl", "no file matches .*; check the pattern"),
    (".", "is a folder without a log in it; the files read end in .jsonl"),
]


@pytest.mark.parametrize(("name", "said"), MISSING)
def test_what_is_not_there_is_one_line(tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        find_sources(str(tmp_path / name))
    with pytest.raises(InputError, match="no log is named"):
        find_sources([])


@pytest.mark.parametrize("suffix", [".gz", ".zst", ""])
def test_compressed_logs_are_read_whatever_they_are_called(tmp_path, suffix):
    packed = {".gz": gzip.compress, ".zst": zstd, "": gzip.compress}[suffix](TEXT)
    assert ids(put(tmp_path / f"log.jsonl{suffix}", packed)) == [str(n) for n in range(20)]


def test_several_frames_are_one_file(tmp_path):
    assert len(ids(put(tmp_path / "log.jsonl.zst", zstd(TEXT) + zstd(TEXT)))) == 40
    assert len(ids(put(tmp_path / "log.jsonl.gz", gzip.compress(TEXT) + gzip.compress(TEXT)))) == 40


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_compression_that_breaks_off_is_told_and_what_came_before_is_read(tmp_path, pack):
    rows = "".join(json.dumps({"response": str(n) * 99, "answer": hash(str(n))}) + "\n" for n in range(6_000)).encode()
    packed = pack(rows)
    log = put(tmp_path / "log.jsonl.packed", packed[: len(packed) // 2])
    items = [item for _, item in recognise(log).rows()]
    assert len(items) > 100 and isinstance(items[-1], Defect)
    assert items[-1].reason == "damaged JSON lines" and items[-1].detail.startswith("damaged compression")
    with pytest.raises(InputError, match="damaged compression.*check how it was written or copied"):
        recognise(put(tmp_path / "short.jsonl", packed[:30]))


def test_standard_input_is_read_like_a_file(files, monkeypatch):
    whole = next((files / "lm-eval-0.4.13").glob("samples_sums_20*"))  # read twice, for its filters
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(whole.read_bytes())))
    log = recognise("-")
    assert str(log) == "lm-eval samples, 2 filters, 1 sample a problem"
    assert [(place.file, item.problem_id) for place, item in log.rows()] == [
        ("standard input", str(n)) for n in range(3)
    ]


def test_an_empty_file_and_one_of_blanks(tmp_path):
    for data in (b"", b"\n \n", b"\xef\xbb\xbf"):
        with pytest.raises(InputError, match="log.jsonl (is empty|holds no rows); give a file with at least one"):
            recognise(put(tmp_path / "log.jsonl", data))
