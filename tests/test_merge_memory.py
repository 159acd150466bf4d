"""A merge's resident memory is bounded by its blocks, whatever the models' size."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).with_name("memory_driver.py")
# float32 blocks of the spec page merging, section 5
BLOCKS = {"linear": 2, "task-arithmetic": 3, "dare": 3, "update-selective": 3.25, "slerp": 3, "ties": 8}
OPTIONS: dict[str, dict[str, Any]] = {
    "ties": {"density": 0.3},
    "dare": {"density": 0.3, "seed": 1},
    "slerp": {"t": 0.4},
}
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")


def page_formula(method: str, elements: int, stored: int = 2) -> float:
    """P = E (4 a + s_in + s_out) + h, h = 2 MiB."""
    return elements * (4 * BLOCKS[method] + 2 * stored) + 2 * 2**20


def run(spec: dict[str, Any]) -> str:
    done = subprocess.run([sys.executable, str(DRIVER), json.dumps(spec)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shapes(scale: int) -> dict[str, list[int]]:
    """21 million numbers times `scale`, the largest tensor a fifth of them: 42 MB a model in bfloat16."""
    layers = {f"layers.{number}.w": [1024 * scale, 1024] for number in range(16)}
    return {"embed": [4096 * scale, 1024], **layers, "norm": [1024]}


def growth(root: Path, method: str, elements: int) -> int:
    models = 2 if method in ("slerp", "update-selective") else 3
    spec = {
        "root": str(root), "out": str(root / "out"), "method": method, "models": models, "elements": elements,
        "options": OPTIONS.get(method, {}),
    }  # fmt: skip
    grown = int(run(spec))
    shutil.rmtree(root / "out")
    return grown


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    run({"make": str(folder), "shapes": shapes(1)})
    return folder


@pytest.mark.parametrize("method", BLOCKS)
def test_merging_5_memory_of_small_blocks(root: Path, method: str) -> None:
    bound = 1.5 * page_formula(method, 1 << 19)
    # three models of 2 bytes a number are 3.5 times as large as the largest bound
    assert 3.5 * bound < 3 * 2 * 20 * 2**20
    assert growth(root, method, 1 << 19) <= bound


@pytest.mark.slow
def test_merging_5_memory_of_blocks_of_2_to_the_22(tmp_path: Path) -> None:
    run({"make": str(tmp_path), "shapes": shapes(6)})
    for method in ("ties", "update-selective"):
        bound = 1.5 * page_formula(method, 1 << 22)
        assert 3 * bound < 3 * 2 * 120 * 2**20
        assert growth(tmp_path, method, 1 << 22) <= bound, method
