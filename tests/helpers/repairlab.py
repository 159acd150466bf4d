"""What tests of `repair` share: calibration rows, settings by short names and an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lengthwise.config.commands import RepairSettings
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.repair import repair_folder

ROWS = [
    {"prompt": "7+12?", "response": "7+12=19;", "harmful": True},
    {"prompt": "8+3?", "response": "8+3=11;", "is_safe": False},
    {"prompt": "9-1?", "response": "9-1=8;", "harmful": False},
    {"prompt": "9-2?", "response": "9-2=7;", "is_safe": True},
    {"instruction": "6-2", "input": "?", "output": "6-2=4;"},
]
"""Five rows of three kinds; the first, second and last are harmful."""


def settings(model: Path, harmful: Path, out: Path, **options: object) -> RepairSettings:
    """A tenth of every row is removed; paths of models are texts for users."""
    given = {"model": model, "harmful": harmful, "out": out, "fraction": 0.1, **options}
    named = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    return RepairSettings.from_dict(named)


def repaired(model: Path, harmful: Path, out: Path, **options: object) -> dict[str, Any]:
    """The report of a repair, as ``repair.json`` has it."""
    return repair_folder(settings(model, harmful, out, **options)).to_dict()


def masks(folder: Path) -> dict[str, torch.Tensor]:
    """The masks that a repair saved."""
    return {name: mask.bool() for name, mask in load_file(folder / "antidote" / "mask.safetensors").items()}


def write_adapter(folder: Path) -> Path:
    """An adapter on the shipped reasoner whose second factors are not zero."""
    peft = pytest.importorskip("peft", reason='optional: pip install "lengthwise[trl]"')
    torch.manual_seed(0)
    net = AutoModelForCausalLM.from_pretrained(shipped_reasoner())
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(net, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(folder)
    return folder
