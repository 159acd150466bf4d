"""What a small rotary model reads beyond its trained length, and what it forgets: losses on text, a stream, lines.

Text and stream need WikiText-2: ``--set data=FOLDER``, with test.txt, which is trained on, and valid.txt.
"""

from __future__ import annotations

from functools import partial

from studies.lambda_attention.lines import measure_lines
from studies.lambda_attention.text import measure_stream, measure_text
from studies.running import Run

SEEDS = (0, 1, 2)
OPTIONS = {"data": "", "text_steps": 4000, "lines_steps": 5000}


def runs() -> list[Run]:
    """Lines first, which need no data; a stream is read by the model of its text."""
    kinds = {"lines": measure_lines, "text": measure_text, "stream": measure_stream}
    return [Run(f"{kind}-{seed}", partial(make, seed)) for kind, make in kinds.items() for seed in SEEDS]
