"""A made-up scored batch for the adapters' tests: ragged lengths, cut answers, groups of unlike luck."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from lengthwise.adapters.verl import score_of
from lengthwise.engine.rollouts import Rollouts
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import build_method

CAP, GROUPS, SIZE = 40, 6, 4


def method(name: str) -> Any:
    """The method with options that make its parts differ."""
    return build_method(name, cap=CAP, **method.options.get(name, {}))  # type: ignore[attr-defined]


method.options = {  # type: ignore[attr-defined]
    "siri": {"cycle": 4, "shortest": 30},
    "drpo": {"lam": 0.3, "kl_limit": 0.0, "kl_coef": 20.0},
    "grpo-lambda": {"fraction": 0.5},
    "alp": {"gate": "right"},  # an old method behind a gate
}


def batch(*, seed: int) -> Rollouts:
    """GROUPS x SIZE rows; some are cut, groups hold 0 to SIZE right answers, lengths differ."""
    generator = torch.Generator().manual_seed(seed)
    rows = GROUPS * SIZE
    lengths = torch.randint(3, CAP + 1, (rows,), generator=generator)
    finished = (lengths < CAP) | (torch.rand(rows, generator=generator) < 0.5)
    right = torch.rand(rows, generator=generator) < torch.linspace(0.2, 1.0, rows)
    mask = torch.arange(CAP)[None] < lengths[:, None]
    groups = torch.arange(rows) // SIZE
    ids = torch.randint(2, 30, (rows, CAP), generator=generator) * mask
    return Rollouts(
        prompt_ids=torch.full((rows, 3), 5), prompt_mask=torch.ones(rows, 3, dtype=torch.bool), completion_ids=ids,
        mask=mask, train_mask=mask, num_tokens=lengths, finished=finished, done=finished | (lengths == CAP),
        answer_correct=right, group_ids=groups, problem_ids=groups, cap=torch.full((rows,), CAP),
        logp=torch.zeros(rows, CAP), policy_version=torch.zeros(rows, CAP, dtype=torch.long),
    )  # fmt: skip


def with_empty(rollouts: Rollouts, at: int, group: int) -> Rollouts:
    """The same rows and, at a place among them, one without a response token: what an aborted response leaves."""
    new: dict[str, Any] = {
        "mask": False, "train_mask": False, "num_tokens": 0, "finished": False, "done": False, "answer_correct": False,
        "group_ids": group, "problem_ids": group, "completion_ids": 0, "logp": 0.0,
    }  # fmt: skip
    grown = {}
    for name, value in vars(rollouts).items():
        if value is not None:
            row = value[:1].clone() if name not in new else torch.full_like(value[:1], new[name])
            grown[name] = torch.cat([value[:at], row, value[at:]])
    return Rollouts(**grown)


def scores_of(rollouts: Rollouts) -> torch.Tensor:
    """What the verl reward manager gives these rows."""
    pairs = zip(rollouts.answer_correct.tolist(), rollouts.finished.tolist(), strict=True)
    return torch.tensor([score_of(right, finished) for right, finished in pairs])


def switching(folder: Path, length: int) -> Path:
    """A copy of the shipped reasoner whose rotary factors switch beyond `length` tokens."""
    shutil.copytree(shipped_reasoner(), folder)
    config = json.loads((folder / "config.json").read_text())
    pairs = config["hidden_size"] // config["num_attention_heads"] // 2
    config["rope_parameters"] |= {
        "rope_type": "longrope", "short_factor": [1.0] * pairs, "long_factor": [4.0] * pairs, "factor": 2.0,
        "original_max_position_embeddings": length,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder
