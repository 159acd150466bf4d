"""What tools really wrote, cut and with bytes changed: rows, defects, or one line that says what is wrong."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from lengthwise.errors import InputError, LengthwiseError
from lengthwise.logs.readers import log_formats, recognise

FILES = Path(__file__).parent / "files"
WROTE = sorted(path for path in FILES.rglob("*") if path.is_file() and "results" not in path.name)
NEEDS = {".parquet": "pyarrow", ".eval": "zstandard"}


def damaged(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(1 + rng.randrange(4)):
        place = rng.randrange(len(changed))
        changed[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return bytes(changed)


@pytest.mark.parametrize("path", WROTE, ids=lambda path: str(path.relative_to(FILES)))
def test_damage_is_told(tmp_path: Path, path: Path) -> None:
    if path.suffix in NEEDS:
        pytest.importorskip(NEEDS[path.suffix])
    rng = random.Random(path.name)
    for attempt in range(10):
        data = damaged(path.read_bytes(), rng)
        if attempt % 5 == 0:
            data = damaged(gzip.compress(path.read_bytes()), rng)
        log = tmp_path / f"{attempt}-{path.name}"
        log.write_bytes(data)
        try:
            list(recognise(log).rows())
        except LengthwiseError as error:
            assert "\n" not in str(error) and len(str(error)) < 1200


NONE = {
    "empty": b"",
    "zeros": bytes(99),
    "page": b"<!DOCTYPE html><html><body>404, not found</body></html>\n",
    "noise": random.Random(0).randbytes(300),
    "packed": gzip.compress(random.Random(1).randbytes(900))[:400],
    "archive": b"PK\x03\x04" + bytes(99),
    "table": b"PAR1" + bytes(99),
    "begun": b'{"doc_id": 0, "resps": [["so',
}


@pytest.mark.parametrize("kind", NONE)
def test_what_is_no_log_at_all_is_one_line_with_the_format_that_was_asked_for(tmp_path: Path, kind: str) -> None:
    if kind == "table":
        pytest.importorskip("pyarrow")
    endings = dict.fromkeys(log_formats(), "jsonl") | {"csv": "csv", "inspect": "eval", "opencompass": "json"}
    for name, ending in (endings | {"lighteval": "parquet"}).items():
        log, form = tmp_path / f"log.{ending}", log_formats()[name]
        log.write_bytes(NONE[kind])
        for asked in (name, None):
            with pytest.raises(InputError) as told:
                recognise(log, format_like=asked)
            said = str(told.value)
            assert log.name in said and "\n" not in said and len(said) < 700
            assert any(
                way in said for way in ("give a file", "check how it was", "name the response's column", "needs")
            )
            assert asked is None or (form.title in said and form.needs in said)
