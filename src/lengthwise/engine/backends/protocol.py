"""What writes the tokens, as the trainer knows it, and its proof on the loaded model before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import UnsupportedModelError

World = Callable[[int, Sequence[int]], int | None]
"""Given a row and its response so far, the token the world writes next, or None to let the model write."""
PROOF_TOKENS = 8
"""Response tokens of each prompt of a proof."""
FLOAT_LIMIT, HALF_LIMIT = 1e-3, 0.25
"""The largest mean gap that is taken, in float32 and in half precision."""


class Backend(Protocol):
    """Draws responses from the policy. `pad_id` fills padding, `device` is where rollouts lie."""

    name: str
    pad_id: int

    @property
    def device(self) -> torch.device:
        """Where rollouts lie."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        caps: int | Sequence[int],
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        group_ids: Sequence[int] | None = None,
        problem_ids: Sequence[int] | None = None,
        policy_version: int = 0,
        world: World | None = None,
        stop_repeats: bool = False,
    ) -> Rollouts:
        """Draw one response per prompt, of at most `caps` tokens; all randomness comes from `generator`."""

    def resume(
        self,
        rollouts: Rollouts,
        *,
        caps: int | Sequence[int],
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        policy_version: int = 0,
        world: World | None = None,
    ) -> Rollouts:
        """Continue rollouts that are not finished up to new caps; finished rows come back as they are."""

    def sync(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Write from now on with these weights, the policy's by name; a backend that shares them does nothing."""

    def check(self) -> None:
        """Refuse what cannot be served exactly.

        Raises:
            UnsupportedModelError: the loaded model is such a one.
        """

    def close(self) -> None:
        """End what was started; a closed backend draws nothing more."""


@dataclass(frozen=True)
class Proof:
    """How far a backend's log-probabilities lie from the scorer's on the same tokens, over `tokens` of them."""

    backend: str
    prompts: int
    tokens: int
    mean_gap: float
    largest_gap: float
    limit: float

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@torch.no_grad()
def prove(
    backend: Backend, scorer: Scorer, prompts: Sequence[Sequence[int]], *, temperature: float, cap: int = PROOF_TOKENS
) -> Proof:
    """Draw at most `cap` tokens after each prompt and score them.

    Raises:
        UnsupportedModelError: the backend refuses the model, or the mean gap is above the limit or NaN.
    """
    backend.check()
    generator = torch.Generator(device=backend.device).manual_seed(0)
    drawn = backend.generate(prompts, caps=cap, generator=generator, temperature=temperature)
    half = scorer.model.dtype != torch.float32 or torch.is_autocast_enabled(backend.device.type)
    gaps = (scorer(drawn)[0] - drawn.logp).abs()[drawn.mask]
    limit = HALF_LIMIT if half else FLOAT_LIMIT
    proof = Proof(backend.name, len(prompts), len(gaps), float(gaps.mean()), float(gaps.max()), limit)
    if not proof.mean_gap <= limit:  # so that NaN is refused too
        raise UnsupportedModelError(
            f"backend {backend.name} gives its tokens log-probabilities that differ from the model's by "
            f"{proof.mean_gap:.3g} on average (allowed {limit:g}), so that it would not learn from what it drew; take "
            "another backend, or float32"
        )
    return proof
