"""Early stops that ask the model itself, while it writes, whether its thinking has settled (EAT, DEER).

At a checkpoint the model reads its thinking so far with the words that ask for the answer behind it, in a forward of
its own; `objectives.exits` decides from what it says. What is written for a trial is no token of the response, and is
counted apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from lengthwise.config.groups.sampling import Intervention
from lengthwise.engine.model_folders import Policy
from lengthwise.engine.rotary_switch import switch_of
from lengthwise.errors import ConfigError
from lengthwise.generation.free_baselines import answer_begins
from lengthwise.grading.problems import Problems
from lengthwise.objectives.exits import entropy_exit, trial_confidence

if TYPE_CHECKING:
    from transformers import Cache

TRIAL_TOKENS, MOST_TRIALS = 20, 10
"""Most tokens of a trial answer, and trials of a response, as DEER has them."""
PARAGRAPH, SWITCH_WORD = "\n\n", "Wait"
LAB_PARAGRAPH, LAB_SWITCH_WORD = ";", "check:"
TAIL = 6  # tokens that a paragraph's end or a switch word is looked for in


class Reader(Protocol):
    """A causal language model, as a forward with a cache."""

    def __call__(
        self, *, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool, logits_to_keep: int
    ) -> Answered:
        """Logits behind the last token, and the cache."""


class Answered(Protocol):
    """What a forward gives back."""

    logits: Tensor
    past_key_values: Cache


class Exit:
    """Whether a response's thinking is to be ended, asked before every token; `trial_tokens` by row are what it took.

    ``asks``: the token ids that ask for the answer. Rows are `samples` of each problem in turn.
    """

    def __init__(
        self, policy: Policy, problems: Problems, asked: Intervention, asks: Sequence[int], samples: int, cap: int
    ):
        self._model: Reader = policy.model
        self._device, self._problems, self._asked = policy.device, problems, asked
        self._asks, self._samples, self._cap = list(asks), samples, cap
        self._lab = problems.contract.answer_format == "lab"
        self._series: dict[int, list[float]] = defaultdict(list)
        self.trial_tokens: dict[int, int] = defaultdict(int)

    def __call__(self, row: int, written: Sequence[int]) -> bool:
        """Whether the thinking is settled here."""
        if len(written) + len(self._asks) + TRIAL_TOKENS > self._cap:
            return False
        return self._entropy_settled(row, written) if self._asked.early_stop == "eat" else self._sure(row, written)

    def _entropy_settled(self, row: int, written: Sequence[int]) -> bool:
        mark = LAB_PARAGRAPH if self._lab else PARAGRAPH
        if not self._ends(written, mark) or self._ends(written[:-1], mark) or self._answers(written):
            return False
        logits, _ = self._read([*self._prompt(row), *written, *self._asks])
        self.trial_tokens[row] += 1
        log_probs = torch.log_softmax(logits, -1)
        self._series[row].append(max(0.0, float(-(log_probs.exp() * log_probs).nansum())))
        warm_up = self._asked.warm_up
        return (
            entropy_exit(
                torch.tensor(self._series[row], dtype=torch.float64), rate=min(1.0, 4 / warm_up), warm_up=warm_up,
                threshold=self._asked.threshold,
            )
            is not None
        )  # fmt: skip

    def _sure(self, row: int, written: Sequence[int]) -> bool:
        word = LAB_SWITCH_WORD if self._lab else SWITCH_WORD
        if len(self._series[row]) >= MOST_TRIALS or not self._ends(written, word) or self._answers(written):
            return False
        taken = next(count for count in range(1, TAIL + 1) if word in self._text(written[-count:]))
        trial = self._trial([*self._prompt(row), *written[:-taken], *self._asks])
        self.trial_tokens[row] += len(trial)
        # The mean leaves out the first token, in DEER's code the brace that opens the box; here that is asked for.
        confidence = trial_confidence(torch.tensor([1.0, *trial], dtype=torch.float64))
        self._series[row].append(confidence)
        return confidence > self._asked.threshold

    def _trial(self, context: list[int]) -> list[float]:
        """The probabilities of the tokens of an answer that is drawn greedily, up to its end."""
        logits, cache = self._read(context)
        drawn: list[int] = []
        found: list[float] = []
        while True:
            token = int(logits.argmax())
            drawn.append(token)
            found.append(float(torch.softmax(logits, -1)[token]))
            ended = token in self._problems.contract.eos_ids or (not self._lab and "}" in self._text(drawn))
            if ended or len(drawn) == TRIAL_TOKENS:
                return found
            logits, cache = self._read([token], cache)

    @torch.no_grad()
    def _read(self, tokens: list[int], cache: Cache | None = None) -> tuple[Tensor, Cache]:
        ids = torch.tensor([tokens], device=self._device)
        out = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1].float(), out.past_key_values

    def _ends(self, written: Sequence[int], text: str) -> bool:
        found = self._text(written[-TAIL:])
        before = found.removesuffix(text)[-1:]
        return found.endswith(text) and not (text[0].isalpha() and before.isalpha())

    def _answers(self, written: Sequence[int]) -> bool:
        return answer_begins(self._problems.response_text(written), self._problems.contract) is not None

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._problems.tokenizer.decode(list(tokens), skip_special_tokens=False))

    def _prompt(self, row: int) -> list[int]:
        return self._problems.prompts[row // self._samples]


def check_exit(policy: Policy, asked: Intervention) -> None:
    """Refuse to ask a model whose forwards are not independent of each other.

    Raises:
        ConfigError: its rotary factors depend on the length.
    """
    if switch_of(policy.model.config) is not None:
        raise ConfigError(
            f"early_stop {asked.early_stop} reads a response anew while it is written, and this model has rotary "
            "factors that depend on the length; give --early-stop agree"
        )
