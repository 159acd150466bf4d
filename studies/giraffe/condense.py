"""What is kept of a position scheme on one reader."""

from __future__ import annotations

from studies.summary import Numbers, pick


def condense(raw: Numbers) -> Numbers:
    """Lines, pass keys and perplexity by length, each way that the model was read."""
    ways = {way: pick(found, "lines", "passkey", "perplexity") for way, found in raw["ways"].items()}
    return {**pick(raw, "arm", "seed", "expected_sha256", "base"), "ways": ways}
