"""A reward of your own: right answers earn 1, less a little for every token.

    python examples/own_reward.py

The file is a method of the command line as well, for a model and data of yours:

    lengthwise shorten MODEL --method examples/own_reward.py --data train.jsonl --cap 4000 --out runs/mine

Expect about 68 tokens before and 53 after ten steps, as accurate as before, in half a minute.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from torch import Tensor

from lengthwise import ShortenSettings, shorten_by
from lengthwise.engine import Rollouts
from lengthwise.lab import chains

PRICE = 0.005
"""Of a token: a right answer of 100 tokens earns half of what one without any would."""


def reward(rollouts: Rollouts, state: object) -> Tensor:
    """A number for each row: 1 - `PRICE` n where the answer is right and not cut, else 0. All else is GRPO's."""
    return rollouts.correct * (1 - PRICE * rollouts.num_tokens)


def main() -> None:
    """Train the lab's reasoner on its own problems for a few steps."""
    folder = Path(tempfile.mkdtemp(prefix="own-reward-"))
    problems = chains.problems(400, split="train", seed=0)  # rows with `problem` and `answer`, as a file of yours has
    (folder / "train.jsonl").write_text("".join(json.dumps(problem.row) + "\n" for problem in problems))
    outcome = shorten_by(
        ShortenSettings.from_dict(
            {
                "model": "lab:chains", "data": str(folder / "train.jsonl"), "preset": "lab", "method": __file__,
                "cap": 90, "eval_cap": 260, "steps": 10, "prompts": 16, "lr": 2e-4, "eval_limit": 60,
                "out": str(folder / "run"),
            }
        )
    )  # fmt: skip
    for name, found in (("before", outcome.before), ("after", outcome.after)):
        print(f"{name}: accuracy {found.accuracy:.1%}, {found.mean_tokens:.1f} tokens")
    print("model:", outcome.model)


if __name__ == "__main__":
    main()
