"""What a method says of a teacher: the policy itself behind words that the student does not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lengthwise.errors import ConfigError

Form = Literal["full", "top-k", "sampled"]
Rest = Literal["bucket", "renormalize"]
Divergence = Literal["reverse", "forward", "jensen-shannon"]
Mean = Literal["token-mean", "seq-mean-token-mean"]


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A second reader of the student's own tokens, whose next-token distribution the student is pulled towards.

    `words` stand before the problem in the teacher's prompt alone. Its weights are the student's of the start, and
    again every `every` steps (0: never). `form`, `rest`, `divergence`, `beta` and `aggregate` are those of
    `objectives.reverse_kl`; `entries` are the student's likeliest that ``top-k`` compares, at most the vocabulary.
    Rows whose advantage is 0 are not learnt from.
    """

    words: str
    every: int
    form: Form = "full"
    entries: int = 100
    rest: Rest = "bucket"
    divergence: Divergence = "reverse"
    beta: float = 0.5
    aggregate: Mean = "token-mean"

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ConfigError(f"every is {self.every}; give steps between copies of the student, or 0 for none")
        if self.entries < 1:
            raise ConfigError(f"entries is {self.entries}; give at least 1 of the vocabulary")
        if self.form == "sampled" and self.divergence != "reverse":
            raise ConfigError(
                f"divergence is {self.divergence!r} with form sampled, whose gradient is that of reverse alone; give "
                "form full or top-k"
            )

    def warning(self) -> str | None:
        """What is wrong with how often the teacher is copied."""
        if self.every != 1:
            return None
        return (
            "every is 1, so the teacher follows the student at each step, and nothing holds either: in the paper "
            "accuracy collapsed; give 10 or more"
        )
