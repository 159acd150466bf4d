"""Every format is told from its files; wrong and damaged ones are one line that says what, and the way out."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from lengthwise.data import Defect
from lengthwise.errors import ConfigError, InputError
from lengthwise.logs.readers import Fields, log_formats, recognise

FLAT = {"response": "7", "answer": "7"}
ONE_OF_EACH = {
    "evalscope": {"index": 0, "model_output": {"choices": [{"message": {"content": "7"}, "stop_reason": "stop"}]}},
    "lighteval": {"doc": {"query": "q"}, "model_response": {"text": ["7"]}},
    "lm-eval": {"doc_id": 0, "doc": {}, "target": "7", "arguments": {}, "resps": [["7"]], "filter": "none"},
    "nemo-rl": {"content": ["<|im_start|>assistant\n7"], "rewards": [1.0], "idx": 0},
    "openai-batch": {"custom_id": "a", "response": {"body": {"choices": [{"text": "7", "finish_reason": "stop"}]}}},
    "openai-chat": {"choices": [{"message": {"content": "7"}, "finish_reason": "stop"}]},
    "opencompass": {"origin_prompt": "q", "prediction": "7"},
    "openr1": {"problem": "q", "generations": ["7"]},
    "sglang": {"text": "7", "meta_info": {"finish_reason": {"type": "stop"}}},
    "trl": {"step": 1, "prompt": "q", "completion": "7", "advantage": 0.0},
    "verl": {"input": "q", "output": "7", "score": 1.0, "step": 1},
    "flat": FLAT,
}


def test_the_registry_has_every_format_by_its_name():
    assert set(log_formats()) == {*ONE_OF_EACH, "csv", "inspect"}
    with pytest.raises(ConfigError, match="there is no format 'lmeval'; the formats are evalscope, inspect, lighteval"):
        recognise("x", format_like="lmeval")


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("form", ["jsonl", "list", "data"])
def test_each_is_told_from_one_row_whatever_it_stands_in(tmp_path, name, form):
    rows = [ONE_OF_EACH[name]]
    path = tmp_path / "log.json"
    path.write_text(
        {"jsonl": json.dumps(rows[0]), "list": json.dumps(rows), "data": json.dumps({"data": rows}, indent=1)}[form]
    )
    log = recognise(path)
    assert log.format.name == name
    assert [item.response for _, item in log.rows()] == ["7"]


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH if name != "flat"])
def test_a_forced_format_that_does_not_fit_says_what_it_needs_and_what_it_looks_like(write, name):
    with pytest.raises(
        InputError,
        match=r"log.jsonl is not .*: its first row has response, answer, and it needs .*; it looks like flat rows",
    ):
        recognise(write([FLAT]), format_like=name)


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH if name != "flat"])
def test_a_log_without_a_response_names_the_format_and_the_first_reason(write, name):
    broken = {
        key: None if key in ("completion", "output", "prediction", "content") else value
        for key, value in ONE_OF_EACH[name].items()
    }
    empty = {"resps": [], "generations": [], "model_response": {"text": []}, "model_output": {"choices": []},
             "choices": [], "response": {"body": {}}, "text": None}  # fmt: skip
    row = {key: empty.get(key, value) for key, value in broken.items()}
    with pytest.raises(InputError, match=f"{log_formats()[name].title}.*it needs ") as error:
        recognise(write([row]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH if name != "flat"])
def test_a_format_that_is_forced_on_another_log_says_what_it_needs_and_what_the_log_looks_like(write, name):
    other = "verl" if name != "verl" else "trl"
    with pytest.raises(InputError) as error:
        recognise(write([ONE_OF_EACH[other]]), format_like=name)
    form, like = log_formats()[name], log_formats()[other]
    assert f" is not {form.title}: its first row has " in str(error.value)
    assert f", and it needs {form.needs}; it looks like {like.title} (--format {other})" in str(error.value)
    assert "\n" not in str(error.value)


def test_forcing_flat_reads_what_another_format_would_have_read(write):
    log = recognise(write([ONE_OF_EACH["verl"]]), format_like="flat")
    assert [item.response for _, item in log.rows()] == ["7"]
    with pytest.raises(ConfigError, match="the format verl has it in a place of its own; give one of the two"):
        recognise(write([ONE_OF_EACH["verl"]]), format_like="verl", fields=Fields(response="output"))


def test_a_row_that_fits_two_formats_is_asked_about(write):
    with pytest.raises(InputError, match="could be trl and verl; say which by --format NAME"):
        recognise(write([ONE_OF_EACH["verl"] | ONE_OF_EACH["trl"]]))


def test_a_folder_of_two_formats_names_both(write, tmp_path):
    write([ONE_OF_EACH["verl"]], "a.jsonl")
    write([ONE_OF_EACH["trl"]], "b.jsonl")
    write([FLAT], "c.jsonl")
    with pytest.raises(
        InputError, match=r"several formats: verl rollouts \(1 file\), TRL completions \(1 file\); name the files"
    ):
        recognise(tmp_path)
    assert str(recognise(tmp_path, format_like="trl")) == "TRL completions, 2 other files passed over"
    with pytest.raises(InputError, match="c.jsonl is not verl rollouts"):
        recognise([tmp_path / "a.jsonl", tmp_path / "c.jsonl"])


WRONG = [
    (b"\x00\x01\x02 binary", "log.jsonl was taken for JSON lines and has no row that can be read"),
    (b"plain words\n", "no row that can be read: not JSON"),
    (b"[1, 2]\n[3]\n", "JSON list and has no row that can be read: not an object .*is a int"),
    (
        b'{"a": 1}\n',
        "log.jsonl is a log of no known format .JSON lines.: its first row has a; name the response's column",
    ),
    (b"PK\x03\x04 torn", "no whole zip archive, as an inspect log is"),
    (b'{"response": "7"', "unfinished last line"),
    ('{"response": "7"}'.encode("utf-16"), "not UTF-8 text"),
]


@pytest.mark.parametrize(("data", "said"), WRONG)
def test_files_that_are_no_log(tmp_path, data, said):
    path = tmp_path / "log.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said) as error:
        recognise(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".parquet", ".eval"])
def test_a_name_that_promises_another_form(tmp_path, suffix):
    path = tmp_path / f"log{suffix}"
    path.write_bytes(b"hello")
    with pytest.raises(
        InputError, match=f"log{suffix} is not (a Parquet file|an inspect log).*; check how it was copied"
    ):
        recognise(path)


def test_a_torn_parquet_file(files, tmp_path):
    pytest.importorskip("pyarrow")
    whole = next((files / "trl-1.16.0" / "plain").glob("*.parquet")).read_bytes()
    path = tmp_path / "log.parquet"
    path.write_bytes(whole[:-50])
    with pytest.raises(InputError, match="no whole Parquet file"):
        recognise(path)


def test_damaged_lines_are_defects_between_good_rows(tmp_path):
    path = tmp_path / "log.jsonl"
    good = json.dumps(FLAT).encode()
    path.write_bytes(b"\n".join([good, b"{", b"[1]", b"\xff", good, b'{"respon']))
    found = [(place.number, getattr(item, "reason", "row")) for place, item in recognise(path).rows()]
    assert found == [(1, "row"), (2, "not JSON"), (3, "not an object"), (4, "not UTF-8 text"), (5, "row"),
                     (6, "unfinished last line")]  # fmt: skip


def test_a_document_that_breaks_off_gives_what_came_before(tmp_path):
    path = tmp_path / "log.json"
    path.write_text(json.dumps([FLAT] * 50)[:-20])
    items = [item for _, item in recognise(path).rows()]
    assert len(items) == 50 and isinstance(items[-1], Defect) and items[-1].reason == "damaged JSON list"


def test_a_document_without_line_breaks_that_is_longer_than_a_row_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr("lengthwise.logs.readers.json_values.LINE_LIMIT", 1000)
    path = tmp_path / "log.json"
    path.write_text(json.dumps({str(n): ONE_OF_EACH["opencompass"] for n in range(100)}))
    assert len(list(recognise(path).rows())) == 100


def test_a_log_that_begins_badly_is_read_all_the_same(write):
    failed = {"custom_id": "a", "response": None, "error": "overloaded"}
    items = [item for _, item in recognise(write([failed] * 200 + [ONE_OF_EACH["openai-batch"]])).rows()]
    assert sum(isinstance(item, Defect) for item in items) == 200 and len(items) == 201


def test_a_folder_and_a_file_together(write, tmp_path):
    write([FLAT], "some/a.jsonl")
    write([{"x": 1}], "some/b.jsonl")
    log = recognise(iter([tmp_path / "some", write([FLAT], "c.jsonl")]))
    assert str(log) == "flat rows, the response in response, 2 files, 1 other file passed over"


def test_reading_needs_neither_torch_nor_pyarrow(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(FLAT) + "\n")
    code = (
        "import sys; from lengthwise.logs.readers import recognise; list(recognise(sys.argv[1]).rows()); "
        "print(*sorted({'torch', 'transformers', 'numpy', 'pyarrow', 'zstandard', 'inspect_ai'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "\n", done.stderr


@pytest.mark.parametrize("name", ["flat", "lm-eval", "list"])
def test_memory_does_not_grow_with_the_log(tmp_path, name):
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.jsonl"
        with path.open("w") as file:
            file.write("[" if name == "list" else "")
            for n in range(rows):
                row = (
                    FLAT | {"response": "so " * 300}
                    if name != "lm-eval"
                    else ONE_OF_EACH[name] | {"doc_id": n, "resps": [["so " * 300]]}
                )
                file.write(json.dumps(row) + (("]" if n == rows - 1 else ",") if name == "list" else "") + "\n")
        if name == "list":
            path = path.rename(path.with_suffix(".json"))
        tracemalloc.start()
        found = sum(1 for _ in recognise(path).rows())
        assert found == rows
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    small, large = peak(200), peak(1600)
    assert large < 1.5 * small + 300_000


def test_the_place_of_a_row_is_its_file_and_line(write, tmp_path: Path):
    paths = [write([FLAT, FLAT], name) for name in ("a.jsonl", "b.jsonl")]
    assert [str(place) for place, _ in recognise(paths).rows()] == [
        f"{path}, row {n}" for path in paths for n in (1, 2)
    ]
