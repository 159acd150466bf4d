"""`--cap auto`: a response cap from the lengths that the untouched model's right answers have."""

from __future__ import annotations

from dataclasses import dataclass

from lengthwise.config.groups.sampling import Sampling
from lengthwise.engine.model_folders import Policy
from lengthwise.errors import InputError
from lengthwise.generation.sampling import ROWS_AT_ONCE, sample_answers
from lengthwise.grading.problems import Problems

QUANTILES = (0.1, 0.25, 0.4, 0.5, 0.75, 0.9)
CHOSEN, LEAST_RIGHT = 0.4, 10
"""A cap that two in five right answers already meet: tight enough to teach, loose enough to find rewards."""


@dataclass(frozen=True)
class CapChoice:
    """The chosen cap, the length quantiles it comes from, and how many right answers there were."""

    cap: int
    quantiles: dict[str, int]
    right_answers: int
    responses: int


def choose_cap(policy: Policy, problems: Problems, *, eval_cap: int, samples: int, seed: int) -> CapChoice:
    """The 0.4 quantile of `num_tokens` over right, finished answers at temperature 1.

    Raises:
        InputError: fewer than 10 right answers, too few for a quantile.
    """
    sampling = Sampling(cap=eval_cap, samples=samples, seed=seed, sample_rows=ROWS_AT_ONCE)
    rollouts = sample_answers(policy, problems, sampling)
    lengths = rollouts.num_tokens[rollouts.correct].float()
    if len(lengths) < LEAST_RIGHT:
        raise InputError(
            f"cap is 'auto', which needs {LEAST_RIGHT} right responses, but of the {len(rollouts)} drawn "
            f"{len(lengths)} are right within {eval_cap} tokens; give a number, more problems or a higher --eval-cap, "
            "or check the prompt and the grader with --dry-run"
        )
    quantiles = {f"p{round(100 * q)}": int(lengths.quantile(q)) for q in QUANTILES}
    return CapChoice(int(lengths.quantile(CHOSEN)), quantiles, len(lengths), len(rollouts))
