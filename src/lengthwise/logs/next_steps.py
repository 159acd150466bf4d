"""What to do next with a model whose responses were graded: a budget, an early stop, a cap for training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lengthwise.logs.graded_database import Lengths
from lengthwise.logs.log_numbers import Abandoned, AfterRight, KeptAtBudget, NextStep

KEEP = 0.95
"""Share of the right answers that a budget must keep to be named."""
WORTH = 0.1
"""Share of all tokens from which a saving is called one that could pay."""
LITTLE = 0.01
CAP_QUANTILE, LEAST_RIGHT = 0.4, 10
"""The rule of `lengthwise shorten --cap auto`: the cap that two in five right answers already meet."""
EVALUATE = "lengthwise evaluate MODEL --data DATA"


def smallest_budget(curve: NDArray[np.float64], cap: int) -> int | None:
    """The smallest budget, to three binary digits, that keeps `KEEP` of the right answers; None where none is right.

    ``curve`` [U,4]: length, share of all, of right and of cut responses, short ones first.
    """
    right = curve[:, 2].cumsum()
    if not right[-1]:
        return None
    # A share that is KEEP but for a rounding counts.
    exact = int(curve[np.searchsorted(right, KEEP * right[-1] - 1e-12), 0])
    step = 1 << max(0, exact.bit_length() - 3)
    return min(-(-max(exact, 1) // step) * step, cap)


def next_steps(
    budget: KeptAtBudget | None,
    *,
    mean_tokens: float,
    all_tokens: int,
    after: AfterRight,
    gone: Abandoned,
    right: Lengths,
    cap: int,
    log: str,
) -> list[NextStep]:
    """Three steps: a budget, stopping early, a cap for `lengthwise shorten`. Each says what it rests on.

    ``log``: the log's words on a command line, quoted where they need it.
    """
    return [_budget(budget, mean_tokens, cap), _early_stop(after, gone, all_tokens, cap, log), _training_cap(right)]


def _budget(budget: KeptAtBudget | None, mean_tokens: float, cap: int) -> NextStep:
    assumes = "the same responses, cut there; a model that is made to answer at its budget keeps more"
    if budget is None or budget.kept is None:
        return NextStep("No response is right, so no budget can be named.", None, assumes)
    saved = max(0.0, 1 - budget.mean_tokens / mean_tokens) if mean_tokens else 0.0
    says = (
        f"A budget of {budget.budget:,} tokens keeps {budget.kept:.1%} of the right answers and saves {saved:.1%} of "
    )
    if budget.budget >= cap or saved < 0.01:
        return NextStep(f"{says}the tokens: hardly worth it.", None, assumes)
    command = f"{EVALUATE} --cap {cap} --budget {budget.budget}"
    return NextStep(f"{says}the tokens.", command, assumes)


def _early_stop(after: AfterRight, gone: Abandoned, all_tokens: int, cap: int, log: str) -> NextStep:
    assumes = "a stop that knows the right answer; a real one is later, and its checks cost tokens"
    lost = f", and rescue up to {gone.abandoned:,} that are right, then lost" if gone.abandoned else ""
    if after.tokens is None or not all_tokens:
        says = "Whether stopping early could pay is not known: where the right answer first stands was not counted."
        command = f"lengthwise grade {log} --tokenizer FOLDER" if after.right else None
        return NextStep(says, command, "the model's own tokenizer")
    saved = after.tokens / all_tokens
    says = f"Stopping after the first right answer would save at most {saved:.1%} of the tokens{lost}"
    if saved < WORTH and not gone.abandoned:
        return NextStep(f"{says}: it hardly pays.", None, assumes)
    return NextStep(f"{says}: it could pay.", f"{EVALUATE} --cap {cap} --early-stop agree", assumes)


def _training_cap(right: Lengths) -> NextStep:
    assumes = "the rule of --cap auto: two in five right answers already fit; training problems like these"
    if right.total < LEAST_RIGHT:
        says = f"Only {right.total} right responses: too few to name a cap for training ({LEAST_RIGHT} are needed)."
        return NextStep(says, None, assumes)
    cap = max(1, int(right.quantile(CAP_QUANTILE) or 1))
    says = f"To train it shorter, a cap of {cap:,} tokens: {CAP_QUANTILE:.0%} of the right responses are within it."
    return NextStep(says, f"lengthwise shorten MODEL --data TRAIN --cap {cap}", assumes)
