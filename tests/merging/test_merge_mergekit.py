"""Merges against mergekit, where both define the same thing. It is no dependency; without it these are skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mergekit", reason="optional: pip install mergekit==0.1.5")

from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from mergekit.sparsify import RescaleNorm, rescaled_masked_tensor
from transformers import LlamaConfig, LlamaForCausalLM
from weightlab import Tensors, read_model

from lengthwise.config.commands import MergeSettings
from lengthwise.merging import formulas
from lengthwise.merging.folder_merge import merge_folders
from lengthwise.merging.in_memory import dare_merge

CONFIG = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three random float32 models: magnitudes of changes do not tie, so the order of ties plays no part."""
    root, made = tmp_path_factory.mktemp("models"), []
    for seed in range(3):
        torch.manual_seed(seed)
        LlamaForCausalLM(CONFIG).save_pretrained(root / str(seed))
        made.append(root / str(seed))
    return made


def by_mergekit(folders: list[Path], out: Path, method: str, parameters: dict[str, Any], per_model: Any) -> Tensors:
    base = {"base_model": str(folders[0])} if method != "linear" else {}
    models = folders if method in ("linear", "slerp") else folders[1:]
    config = MergeConfiguration.model_validate(
        {
            "merge_method": method, **base, "dtype": "float32", "parameters": parameters,
            "models": [
                {"model": str(folder), "parameters": row} for folder, row in zip(models, per_model, strict=True)
            ],
        }
    )  # fmt: skip
    run_merge(config, str(out), MergeOptions(copy_tokenizer=False, quiet=True))
    return read_model(out)


CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any], list[dict[str, float]]]] = {
    "linear": (
        "linear", {"weights": (0.5, 0.2, 0.9)}, "linear", {}, [{"weight": 0.5}, {"weight": 0.2}, {"weight": 0.9}],
    ),
    "linear, not normalised": (
        "linear", {"weights": (0.5, 0.2, 0.9), "normalize": False},
        "linear", {"normalize": False}, [{"weight": 0.5}, {"weight": 0.2}, {"weight": 0.9}],
    ),
    "task arithmetic": (
        "task-arithmetic", {"weights": (0.5, -0.3), "scale": 0.7},
        "task_arithmetic", {"lambda": 0.7}, [{"weight": 0.5}, {"weight": -0.3}],
    ),
    "ties": (
        "ties", {"density": 0.37, "weights": (0.5, 0.8), "scale": 0.7},
        "ties", {"lambda": 0.7}, [{"weight": 0.5, "density": 0.37}, {"weight": 0.8, "density": 0.37}],
    ),
    "ties of everything": (
        "ties", {"density": 1.0}, "ties", {}, [{"weight": 1.0, "density": 1.0}, {"weight": 1.0, "density": 1.0}],
    ),
    "ties, not normalised": (
        "ties", {"density": 0.2, "normalize": False},
        "ties", {"normalize": False}, [{"weight": 1.0, "density": 0.2}, {"weight": 1.0, "density": 0.2}],
    ),
    "slerp": ("slerp", {"t": 0.3}, "slerp", {"t": 0.3}, [{}, {}]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_folders_against_mergekit(folders: list[Path], tmp_path: Path, case: str) -> None:
    name, options, theirs, parameters, per_model = CASES[case]
    chosen = folders[:2] if name == "slerp" else folders
    base, *others = map(str, chosen)
    parts = {"base": base, "models": others} if name not in ("linear", "slerp") else {"models": [base, *others]}
    merge_folders(MergeSettings.from_dict({"method": name, **options, **parts, "out": tmp_path / "ours"}))
    wanted = by_mergekit(chosen, tmp_path / "theirs", theirs, parameters, per_model)
    found = read_model(tmp_path / "ours")
    assert found.keys() == wanted.keys()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


def test_dare_l1_against_mergekits_rescaling() -> None:
    change = torch.randn(400, generator=torch.Generator().manual_seed(0))
    mask = torch.from_numpy(formulas.bernoulli_mask(4, 0, "w", 0, 400, 0.3))
    wanted = rescaled_masked_tensor(change, mask.float(), RescaleNorm.l1)
    found = dare_merge({"w": torch.zeros(400)}, [{"w": change}], density=0.3, seed=4, rescale="l1")["w"]
    torch.testing.assert_close(found, wanted)
