"""`--merge-back` end to end: a run ends on DLER's update-selective merge, and says so (spec page merging, 4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lengthwise.config.commands import ShortenSettings
from lengthwise.engine.model_folders import load_policy
from lengthwise.errors import ConfigError
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.merging import update_selective_merge
from lengthwise.runs.shortening.outcome import Outcome
from lengthwise.runs.shortening.resolve import shorten_by


def asked(folder: Path, **changes: Any) -> ShortenSettings:
    paths = {}
    for split in ("train", "test"):
        paths[split] = folder / f"{split}.jsonl"
        rows = [chain.row for chain in chains.problems(12, split=split, seed=0, levels=(2, 3))]  # type: ignore[arg-type]
        paths[split].write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {
        "model": "lab:chains", "data": str(paths["train"]), "eval_data": str(paths["test"]), "out": folder / "run",
        "method": "grpo", "cap": 60, "eval_cap": 60, "preset": "lab", "device": "cpu", "steps": 2, "prompts": 4,
        "group_size": 4, "updates": 1, "lr": 1e-3, "merge_back": (0.25, 0.7),
    }  # fmt: skip
    return ShortenSettings.from_dict({**given, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in load_policy(folder, device="cpu").model.named_parameters()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    folder = tmp_path_factory.mktemp("merge-back")
    return shorten_by(asked(folder)), folder


def test_the_model_is_the_merge_of_untouched_and_trained(finished: tuple[Outcome, Path]) -> None:
    _, folder = finished
    base, trained = weights(shipped_reasoner()), weights(folder / "run" / "stages" / "trained" / "model")
    found = weights(folder / "run" / "model")
    wanted = update_selective_merge(base, trained, density=0.25, scale=0.7)
    for name, value in found.items():
        assert torch.equal(value, wanted[name]), name
    changed = sum(int((found[name] != base[name]).sum()) for name in base)
    size = sum(value.numel() for value in base.values())
    # a kept change may still be lost by rounding
    assert 0.2 * size < changed <= int(0.25 * size + 0.5)


def test_the_run_says_what_was_kept(finished: tuple[Outcome, Path]) -> None:
    outcome, folder = finished
    facts = outcome.stages["merge-back"].found
    assert (facts["density"], facts["scale"]) == (0.25, 0.7)
    assert facts["changed"]["models"][0]["kept"] == pytest.approx(0.25, abs=1e-4)
    assert outcome.weights_sha_after != outcome.weights_sha_before
    assert json.loads((folder / "run" / "config.json").read_text())["settings"]["merge_back"] == [0.25, 0.7]
    card = (folder / "run" / "stages" / "merge-back" / "model" / "README.md").read_text()
    assert "update-selective" in card


def test_a_finished_run_is_not_merged_again_and_another_merge_is_another_run(
    finished: tuple[Outcome, Path],
) -> None:
    outcome, folder = finished
    assert shorten_by(asked(folder)).after == outcome.after
    with pytest.raises(ConfigError, match="another config.*merge_back"):
        shorten_by(asked(folder, merge_back=(0.5, 0.7)))
