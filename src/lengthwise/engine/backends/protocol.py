"""What writes the tokens, as the trainer knows it, and its proof on the loaded model before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Tensor

from lengthwise.engine.backends.changed_weights import changed_weights
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import UnsupportedModelError
from lengthwise.json_types import JsonValue

World = Callable[[int, Sequence[int]], int | None]
"""Given a row and its response so far, the token the world writes next, or None to let the model write."""
PROOF_TOKENS = 8
"""Response tokens of each prompt of a proof."""
FLOAT_LIMIT, HALF_LIMIT = 1e-3, 0.1
"""The largest mean gap that is taken, in float32 and in half precision: about twice the largest that was seen in the
latter (.056), and a tenth of what changed weights move (1.2 to 1.7), which a hand-over that failed would leave."""


class Backend(Protocol):
    """Draws responses from the policy. `pad_id` fills padding, `device` is where rollouts lie."""

    name: str
    pad_id: int
    shares_weights: bool
    """Whether it writes with the policy's own tensors, so that nothing has to be handed over."""

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

    def rest(self) -> None:
        """Nothing is written until the next weights: memory may be given back until then."""

    def check(self) -> None:
        """Refuse what cannot be served exactly.

        Raises:
            UnsupportedModelError: the loaded model is such a one.
        """

    def close(self) -> None:
        """End what was started; a closed backend draws nothing more."""


@dataclass(frozen=True)
class Proof:
    """How far a backend's log-probabilities lie from the scorer's on the same tokens, over `tokens` of them.

    `changed_gap` is the mean gap after a hand-over of changed weights, `moved` how far that change moved the
    log-probabilities; both None for a backend that shares the policy's weights.
    """

    backend: str
    prompts: int
    tokens: int
    mean_gap: float
    largest_gap: float
    limit: float
    changed_gap: float | None = None
    moved: float | None = None

    def to_dict(self) -> dict[str, JsonValue]:
        """Ready for JSON; what was not looked at is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def line(self) -> str:
        """It in one line."""
        after = "" if self.changed_gap is None else f", {self.changed_gap:.2g} after a hand-over of changed weights"
        return (
            f"{self.backend} gives its tokens the model's own log-probabilities within {self.mean_gap:.2g} on average"
            f"{after} ({self.tokens} tokens of {self.prompts} prompts; allowed {self.limit:g})"
        )


@torch.no_grad()
def prove(
    backend: Backend, scorer: Scorer, prompts: Sequence[Sequence[int]], *, temperature: float, cap: int = PROOF_TOKENS
) -> Proof:
    """Draw at most `cap` tokens after each prompt and score them.

    A backend that holds weights of its own is handed changed ones first, and then the model's: one that keeps a part
    of the old ones would write with it from the first update on, and nobody would see it before.

    Raises:
        UnsupportedModelError: the backend refuses the model, or a mean gap is above the limit or NaN.
    """
    backend.check()
    half = scorer.model.dtype != torch.float32 or torch.is_autocast_enabled(backend.device.type)
    limit = HALF_LIMIT if half else FLOAT_LIMIT

    def draw() -> Rollouts:
        generator = torch.Generator(device=backend.device).manual_seed(0)
        return backend.generate(prompts, caps=cap, generator=generator, temperature=temperature)

    changed_gap = moved = None
    if not backend.shares_weights:
        with changed_weights(scorer.model):
            backend.sync(scorer.model.named_parameters())
            drawn = draw()
            scored = scorer(drawn)[0]
            changed_gap = _gap(backend, scored, drawn, limit, "after weights were handed over ")
        moved = float((scorer(drawn)[0] - scored).abs()[drawn.mask].mean())
        backend.sync(scorer.model.named_parameters())
    drawn = draw()
    scored = scorer(drawn)[0]
    mean_gap = _gap(backend, scored, drawn, limit)
    largest = float((scored - drawn.logp).abs()[drawn.mask].max())
    tokens = int(drawn.mask.sum())
    return Proof(backend.name, len(prompts), tokens, mean_gap, largest, limit, changed_gap, moved)


def _gap(backend: Backend, scored: Tensor, drawn: Rollouts, limit: float, when: str = "") -> float:
    """The mean gap of the drawn tokens, where it is taken."""
    gap = float((scored - drawn.logp).abs()[drawn.mask].mean())
    if not gap <= limit:  # so that NaN is refused too
        raise UnsupportedModelError(
            f"backend {backend.name} gives its tokens {when}log-probabilities that differ from the model's by "
            f"{gap:.3g} on average (allowed {limit:g}), so that it would not learn from what it drew; take "
            "another backend, or float32"
        )
    return gap
