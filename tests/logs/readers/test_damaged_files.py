"""What tools really wrote, cut and with bytes changed: rows, defects, or one line that says what is wrong."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.logs.readers import recognise

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
