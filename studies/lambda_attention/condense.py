"""What is kept of a text, a stream or lines read beyond the trained length."""

from __future__ import annotations

from studies.summary import Numbers, pick


def condense(raw: Numbers) -> Numbers:
    """Losses by position, the million tokens, and the shares answered."""
    stream = ("tokens", "loss_per_100k", "memory_mib", "cache_bytes", "formula_bytes")
    return pick(raw, "seed", "expected_sha256", "loss_by_position", "answered", "questions", *stream)
