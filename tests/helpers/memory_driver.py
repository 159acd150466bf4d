"""Merge folders in this process and print by how many bytes its peak rose above its start (for test_merge_memory)."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise.config.commands import MergeSettings
from lengthwise.merging.folder_merge import merge_folders
from lengthwise.merging.merge_methods import METHODS
from lengthwise.safetensors_io.dtypes import BY_CODE
from lengthwise.safetensors_io.tensor_sources import TensorInfo
from lengthwise.safetensors_io.writer import ShardWriter

BLOCK = 1 << 20
MODELS = 4


def make(folder: Path, shapes: dict[str, list[int]], seed: int) -> None:
    """A bfloat16 folder of random bits that are finite numbers, written in blocks; models after the first differ.

    One drawn block, turned a little further each time: drawing every number would take longer than merging them.
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "none"}')
    infos = {name: TensorInfo(tuple(shape), BY_CODE["BF16"]) for name, shape in shapes.items()}
    bits = np.random.default_rng(0).integers(0x3C00, 0x3F00, BLOCK, dtype=np.uint16)
    if seed:
        bits ^= np.random.default_rng(seed).integers(0, 16, BLOCK, dtype=np.uint16)
    with ShardWriter(folder, infos, shard_bytes=40_000_000) as writer:
        for name, info in writer.outputs.items():
            for start in range(0, info.size, BLOCK):
                bits = np.roll(bits, 1)
                writer.write(name, bits[: min(BLOCK, info.size - start)])
        writer.close()
        writer.publish()


def merge(root: Path, out: Path, spec: dict[str, Any]) -> None:
    folders = [str(root / str(number)) for number in range(spec["models"])]
    base, models = (folders[0], folders[1:]) if METHODS[spec["method"]].needs_base else (None, folders)
    given = {"method": spec["method"], **spec["options"], "base": base, "models": models, "out": out}
    merge_folders(MergeSettings.from_dict(given), elements=spec["elements"])


def resident(field: str) -> int:
    """VmRSS now or VmHWM, the peak; the kernel's `ru_maxrss` would begin with the peak of the parent process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def main() -> None:
    spec = json.loads(sys.argv[1])
    if "make" in spec:
        for seed in range(MODELS):
            make(Path(spec["make"]) / str(seed), spec["shapes"], seed)
        return
    with tempfile.TemporaryDirectory() as warm:
        # every module and code path is loaded before the start is measured
        for seed in range(MODELS):
            make(Path(warm) / str(seed), {"w": [4, 4]}, seed)
        merge(Path(warm), Path(warm) / "out", spec)
        before = resident("VmRSS")
        merge(Path(spec["root"]), Path(spec["out"]), spec)
        sys.stdout.write(str(resident("VmHWM") - before))


if __name__ == "__main__":
    main()
