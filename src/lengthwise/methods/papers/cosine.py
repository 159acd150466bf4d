"""The cosine length reward. Demystifying Long Chain-of-Thought Reasoning, arXiv 2502.03373."""

from __future__ import annotations

from lengthwise.engine.method import Method
from lengthwise.methods.declaration import CAPS, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import cosine_length


@declare(
    "cosine",
    Gated,
    paper="Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373",
    summary="right answers earn less, wrong ones lose less, the longer they are",
    knob=CAPS,
    wrong="longer is better",
    baseline=True,
)
def cosine(options: Gated) -> Method:
    """Right answers earn 1 falling to .5 at the cap, wrong ones -1 rising to -.5, along half a cosine."""
    return gated(
        options,
        base=(1.0, -1.0),
        reward=lambda r, state: cosine_length(r.correct, r.num_tokens, limit=options.cap),
    )
