"""Reading and writing safetensors folders: whole or refused, never unpickled, the same bits in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from weightlab import read_model, same_bits, write_model

from lengthwise.errors import CheckpointError, InputError
from lengthwise.files import PARTIAL
from lengthwise.safetensors_io.dtypes import BY_CODE, narrow, widen
from lengthwise.safetensors_io.reader import CHECKSUMS, open_folder, read_header, verify_checksums
from lengthwise.safetensors_io.writer import ShardWriter

KINDS = (
    torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def mixed() -> dict[str, torch.Tensor]:
    """Every format, odd sizes, an empty tensor and one without dimensions."""
    dice = torch.Generator().manual_seed(0)
    tensors = {f"t{n}": torch.randint(0, 2, (3, 5), generator=dice).to(kind) for n, kind in enumerate(KINDS)}
    return {**tensors, "flag": torch.tensor([True, False, True]), "none": torch.zeros(0, 4), "one": torch.tensor(2.5)}


def copy(source_folder: Path, target: Path, *, shard_bytes: int, block: int) -> list[Path]:
    source = open_folder(source_folder)
    target.mkdir()
    with ShardWriter(target, source.infos, shard_bytes=shard_bytes) as writer:
        for name, info in writer.outputs.items():
            for start in range(0, info.size, block):
                writer.write(name, source.read(name, start, min(info.size, start + block)))
        writer.close()
        (target / CHECKSUMS).write_text(json.dumps(writer.sums))
        assert not list(target.glob("model*"))
        writer.publish()
    return sorted(target.glob("*.safetensors"))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("shard_bytes", [1, 64, 10_000])
@pytest.mark.parametrize("block", [1, 4, 1000])
def test_what_is_read_and_written_again_is_the_same(tmp_path: Path, shards: int, shard_bytes: int, block: int) -> None:
    tensors = mixed()
    write_model(tmp_path / "in", tensors, shards=shards)
    files = copy(tmp_path / "in", tmp_path / "out", shard_bytes=shard_bytes, block=block)
    assert same_bits(read_model(tmp_path / "out"), tensors)
    assert (len(files) == 1) == (shard_bytes == 10_000)
    # what we write we read, checksums included
    verify_checksums(open_folder(tmp_path / "out"))
    for file in files:
        for info, offset in read_header(file).values():
            assert offset % info.dtype.itemsize == 0
        with safe_open(file, "pt") as opened:
            assert opened.metadata() == {"format": "pt"}


def test_an_index_names_every_tensor_once(tmp_path: Path) -> None:
    write_model(tmp_path / "in", mixed())
    copy(tmp_path / "in", tmp_path / "out", shard_bytes=100, block=100)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == mixed().keys()
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in mixed().values())


@pytest.mark.parametrize("code", ["BF16", "F16", "F32", "F64"])
def test_rounding_against_torch(code: str) -> None:
    dtype, dice = BY_CODE[code], np.random.default_rng(0)
    kind = getattr(torch, dtype.torch)
    values = dice.integers(0, 1 << 32, 200_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    values = np.concatenate(
        [values[np.isfinite(values)], np.float32([0.0, -0.0, 3.4e38, np.inf, -np.inf, 65504, 65520])]
    )
    wanted = torch.from_numpy(values).to(kind)
    stored = narrow(values, dtype)
    assert np.array_equal(stored.view(np.uint8), wanted.view(torch.uint8).numpy())
    assert np.array_equal(widen(stored, dtype, np.dtype("f8")), wanted.double().numpy())


def test_float64_is_rounded_once() -> None:
    # 1 + 2^-8 is halfway between the bfloat16 numbers 1 and 1 + 2^-7; a hair more goes up, though float32 drops it
    values = np.array([1 + 2**-8, 1 + 2**-8 + 2**-40, 1 + 2**-8 - 2**-40, -(1 + 2**-8 + 2**-40)])
    rounded = widen(narrow(values, BY_CODE["BF16"]), BY_CODE["BF16"], np.dtype("f4"))
    assert rounded.tolist() == [1, 1.0078125, 1, -1.0078125]


# --- what is refused ---------------------------------------------------------------------------------------------


def header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "header is longer than the file"),
        (b"1234567", "header is longer than the file"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "header is longer than the file"),
        ((2).to_bytes(8, "little") + b"{]", "header is not JSON"),
        ((2).to_bytes(8, "little") + b"\xff\xfe", "header is not JSON"),
        (header([]), "header is no object"),  # type: ignore[arg-type]
        (header({"w": ENTRY}, b"\0" * 7), "it has .* bytes, its header describes"),
        (header({"w": ENTRY}, b"\0" * 9), "it has .* bytes, its header describes"),
        (header({"w": {**ENTRY, "data_offsets": [4, 12]}}, b"\0" * 12), "the data of w is not where"),
        (header({"w": {**ENTRY, "data_offsets": [0, 4]}}, b"\0" * 4), "the data of w is not where"),
        (header({"w": ENTRY, "v": ENTRY}, b"\0" * 8), "the data of v is not where"),
        (header({"w": {"dtype": "F32"}}), "the header entry of w is not whole"),
        (header({"w": 3}), "the header entry of w is not whole"),
        (header({"w": {**ENTRY, "shape": [-2]}}, b"\0" * 8), "impossible numbers"),
        (header({"w": {**ENTRY, "shape": "2"}}, b"\0" * 8), "impossible numbers"),
        (header({"w": {**ENTRY, "shape": [1 << 40, 1 << 40]}}, b"\0" * 8), "impossible numbers"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"model.safetensors is damaged: .*{says}"):
        open_folder(tmp_path)


def test_eight_bit_floats_are_refused(tmp_path: Path) -> None:
    save_file({"w": torch.ones(4).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="w in .* is stored as F8_E4M3; convert"):
        open_folder(tmp_path)


def test_pickles_are_refused_with_the_way_to_convert(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pickled weights \(pytorch_model.bin\), which are never loaded. Convert"):
        open_folder(tmp_path)


def test_no_folder_and_no_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        open_folder(tmp_path)


def change_index(folder: Path, **changes: Any) -> None:
    file = folder / "model.safetensors.index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_an_index_and_its_shards_must_agree(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", mixed(), shards=3)
    whole = json.loads((folder / "model.safetensors.index.json").read_text())
    change_index(folder, metadata={"total_size": 1})
    with pytest.raises(CheckpointError, match="says total_size 1, its shards hold"):
        open_folder(folder)
    moved = {**whole["weight_map"], "t0": whole["weight_map"]["t1"]}
    change_index(folder, metadata=whole["metadata"], weight_map=moved)
    with pytest.raises(CheckpointError, match="disagree on 1 tensors, first t0"):
        open_folder(folder)
    change_index(folder, weight_map={})
    with pytest.raises(CheckpointError, match="it has no weight_map"):
        open_folder(folder)
    change_index(folder, weight_map=whole["weight_map"])
    open_folder(folder)
    (folder / "model-00002-of-00003.safetensors").rename(folder / "elsewhere")
    with pytest.raises(CheckpointError, match=r"names model-00002-of-00003\.safetensors, which is missing"):
        open_folder(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(InputError, match="has shards but no"):
        open_folder(folder)


def test_stale_files_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", mixed(), shards=2)
    save_file({"x": torch.ones(1)}, folder / "model-00003-of-00003.safetensors")
    with pytest.raises(InputError, match="model-00003-of-00003.* is not in model.safetensors.index.json"):
        open_folder(folder)
    (folder / "model-00003-of-00003.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(InputError, match="has both"):
        open_folder(folder)


def test_a_name_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {"a": torch.ones(1), "b": torch.ones(1)}, shards=2)
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, folder / "model-00002-of-00002.safetensors")
    with pytest.raises(InputError, match="a is in model-00001-of-00002.safetensors and in model-00002"):
        open_folder(folder)


def test_unfinished_folders_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / f"{PARTIAL}12-m", mixed())
    with pytest.raises(InputError, match="is unfinished"):
        open_folder(folder)
    folder = folder.rename(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / f"{PARTIAL}model.safetensors")
    with pytest.raises(InputError, match="is unfinished"):
        open_folder(folder)


@pytest.mark.parametrize("position", [0, 9, -1])
def test_a_flipped_byte_is_refused_where_the_checksum_is_known(tmp_path: Path, position: int) -> None:
    write_model(tmp_path / "in", mixed())
    file = copy(tmp_path / "in", tmp_path / "out", shard_bytes=1000, block=100)[0]
    source = open_folder(tmp_path / "out")
    verify_checksums(source)
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="model.safetensors does not match its checksum"):
        verify_checksums(source)
    (tmp_path / "out" / CHECKSUMS).unlink()
    verify_checksums(source)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    source = open_folder(write_model(tmp_path / "m", {"w": torch.ones(100)}))
    file = tmp_path / "m" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="ended while w was read"):
        source.read("w", 0, 100)


def test_reading_never_unpickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    folder = write_model(tmp_path / "m", {"w": torch.ones(3)})
    torch_file = folder / "extra.bin"
    torch_file.write_bytes(b"\x80\x04.")
    assert open_folder(folder).read("w", 0, 3).tolist() == [1, 1, 1]
    assert load_file(folder / "model.safetensors")["w"].tolist() == [1, 1, 1]
