"""How files/verl-0.9.1/ was made: pip install verl==0.9.1; python tests/logs/readers/make/verl_rollouts.py OUT.

verl's own writer of rollouts, given the texts: a training run of verl needs a GPU.
"""

from __future__ import annotations

import sys

from verl.trainer.ppo.ray_trainer import RayPPOTrainer

ASKED = "user\n{}\nassistant\n"
PENS, APPLES = "A pen costs 2 dollars. What do 6 pens cost?", "Tom has 3 apples and buys 4 more. How many?"


def main(out: str) -> None:
    inputs = [ASKED.format(PENS)] * 2 + [ASKED.format(APPLES)] * 2
    outputs = ["6 * 2 = 12\n#### 12", "#### 13", "<think>3 + 4</think>\n#### 7", "seven"]
    more = {"acc": [True, False, True, False], "pred": ["12", "13", "7", "[INVALID]"]}
    for step in (1, 2, 10):
        scores = [1.0 - 0.01 * step, -0.5, 0.8, 0.0]  # shaped: a length penalty
        RayPPOTrainer._write_generations(
            inputs, outputs, ["12", "12", "7", "7"], scores, {"reward": scores, **more}, out, step
        )


if __name__ == "__main__":
    main(sys.argv[1])
