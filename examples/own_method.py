"""A method of your own, with options and a memory: DLER whose cap falls while most answers are right.

    python examples/own_method.py

The file is a method of the command line as well; its option is listed, checked and swept like those of ours:

    lengthwise methods examples/own_method.py
    lengthwise shorten MODEL --method examples/own_method.py --option share=0.6 --data train.jsonl --cap 4000 --out mine

Expect about 68 tokens before and 50 after nine steps, as accurate as before, and a cap that begins to fall, from 60
to 54, in half a minute.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

from lengthwise import ShortenSettings, shorten_by
from lengthwise.config.definition import setting
from lengthwise.engine import Method, Rollouts
from lengthwise.engine.method import State
from lengthwise.lab import chains
from lengthwise.methods import Knob, Options, declare, dler


class FallingOptions(Options):
    """Options of the method; ``cap``, the first one, every method has."""

    share: float = setting(0.5, gt=0, lt=1, help="Share of right answers from which on the cap falls.")
    factor: float = setting(0.9, gt=0, lt=1, help="What the cap is multiplied by, or divided where too few are right.")


@declare(
    "falling",
    FallingOptions,
    paper="ours, no paper",
    summary="DLER whose cap falls while most answers are right",
    knob=Knob("share", (0.3, 0.5, 0.7)),
    one_cap="it moves its cap itself",
)
def falling(options: FallingOptions) -> Method:
    """DLER, with another cap: times `factor` after a step with a `share` of right answers, else divided by it."""

    def follow(state: State, rollouts: Rollouts) -> State:
        enough = float(rollouts.correct.float().mean()) >= options.share
        return {"cap": min(options.cap, state["cap"] * (options.factor if enough else 1 / options.factor))}

    return dataclasses.replace(
        dler(cap=options.cap),
        initial_state=lambda: {"cap": options.cap},  # kept in checkpoints: JSON alone
        cap=lambda step, state: state["cap"],
        update_state=follow,
    )


def main() -> None:
    """Train the lab's reasoner on its own problems for a few steps."""
    folder = Path(tempfile.mkdtemp(prefix="own-method-"))
    problems = chains.problems(400, split="train", seed=0)  # rows with `problem` and `answer`, as a file of yours has
    (folder / "train.jsonl").write_text("".join(json.dumps(problem.row) + "\n" for problem in problems))
    outcome = shorten_by(
        ShortenSettings.from_dict(
            {
                "model": "lab:chains", "data": str(folder / "train.jsonl"), "preset": "lab", "method": __file__,
                "cap": 60, "eval_cap": 260, "steps": 9, "prompts": 8, "lr": 2e-4, "eval_limit": 60,
                "out": str(folder / "run"),
            }
        )
    )  # fmt: skip
    steps = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    print("caps:", *(step["cap"] for step in steps))
    for name, found in (("before", outcome.before), ("after", outcome.after)):
        print(f"{name}: accuracy {found.accuracy:.1%}, {found.mean_tokens:.1f} tokens")


if __name__ == "__main__":
    main()
