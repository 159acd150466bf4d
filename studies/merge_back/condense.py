"""What is kept of a merge: accuracy and tokens at either temperature, and its share of the change's norm."""

from __future__ import annotations

from studies.summary import Numbers, pick


def condense(raw: Numbers) -> Numbers:
    """A merge, or the training that the merges start from."""
    trained = ("steps", "tokens_saved", "sampled_tokens", "before", "after")
    return pick(raw, "seed", "density", "kind", "scale", "norm_share", "0.6", "1.0", *trained)
