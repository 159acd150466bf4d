"""A merge's resident memory is bounded by its blocks, whatever the models' size."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).parents[1] / "helpers" / "memory_driver.py"
# float32 blocks of the spec page merging, section 5
BLOCKS = {"linear": 2, "task-arithmetic": 3, "dare": 3, "update-selective": 3.25, "slerp": 3, "ties": 8}
OPTIONS: dict[str, dict[str, Any]] = {
    "ties": {"density": 0.3},
    "dare": {"density": 0.3, "seed": 1},
    "slerp": {"t": 0.4},
}
MODELS = {"linear": 3, "ties": 4}
"""Models that a method gets, base included; the others get two, whose blocks are the largest."""
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")


def page_formula(method: str, elements: int, stored: int = 2) -> float:
    """P = E (4 a + s_in + s_out) + h, h = 2 MiB."""
    return elements * (4 * BLOCKS[method] + 2 * stored) + 2 * 2**20


def run(spec: dict[str, Any]) -> str:
    done = subprocess.run([sys.executable, str(DRIVER), json.dumps(spec)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shapes(scale: int) -> dict[str, list[int]]:
    """22 million numbers times `scale`, 44 MB a model in bfloat16; the largest tensor is about a fifth of that."""
    layers = {f"layers.{number}.w": [1024 * scale, 1024] for number in range(17)}
    return {"embed": [4096 * scale, 1024], **layers, "norm": [1024]}


def growth(root: Path, method: str, elements: int) -> int:
    spec = {
        "root": str(root), "out": str(root / "out"), "method": method, "models": MODELS.get(method, 2),
        "elements": elements, "options": OPTIONS.get(method, {}),
    }  # fmt: skip
    grown = int(run(spec))
    shutil.rmtree(root / "out")
    return grown


def check_bound(root: Path, method: str, elements: int, *, scale: int) -> None:
    """The models together are at least three times as large as the bound, which holds."""
    bound = 1.5 * page_formula(method, elements)
    numbers = sum(map(math.prod, shapes(scale).values()))
    assert 3 * bound < MODELS.get(method, 2) * 2 * numbers
    assert growth(root, method, elements) <= bound


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    run({"make": str(folder), "shapes": shapes(1)})
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("large")
    run({"make": str(folder), "shapes": shapes(4)})
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("method", BLOCKS)
def test_merging_5_memory_of_small_blocks(small: Path, method: str) -> None:
    check_bound(small, method, 1 << 19, scale=1)


@pytest.mark.slow
@pytest.mark.parametrize("method", BLOCKS)
def test_merging_5_memory_of_blocks_of_2_to_the_22(large: Path, method: str) -> None:
    check_bound(large, method, 1 << 22, scale=4)
