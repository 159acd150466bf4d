"""Free baselines: what makes an untouched model's responses shorter while they are written.

Training is worth its price where it beats these. All that is written into a response counts as its tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from lengthwise.config.groups.sampling import Intervention
from lengthwise.engine.backends.protocol import World
from lengthwise.errors import ConfigError
from lengthwise.grading.answer_extraction.answer_text import answer_key
from lengthwise.grading.answer_extraction.readers import lab_marks
from lengthwise.grading.answer_extraction.stated_answer import BOXED, EQUATION
from lengthwise.grading.answer_extraction.stated_answers import stated_answers
from lengthwise.grading.prompt_contract import PromptContract

LAB_PROMPT, ANSWER_PROMPT = "A:", "\n\nThe final answer is \\boxed{"
BREVITY = "\n\nBe concise: keep every step of your reasoning as short as you can."
# A response is read again once it has grown by this part of it, so that reading never costs much more than writing.
GROWTH, EVERY_TOKEN_TO = 64, 256


def asking(intervention: Intervention, contract: PromptContract) -> PromptContract:
    """The contract under which prompts are rendered; responses are read under the one given.

    Raises:
        ConfigError: ``concise`` with the lab's contract.
    """
    if not intervention.concise:
        return contract
    if contract.answer_format == "lab":
        raise ConfigError(
            "concise asks for brevity in words, and the lab's vocabulary has none; use --budget or --early-stop"
        )
    return dataclasses.replace(contract, template=contract.template + BREVITY)


def ending(intervention: Intervention, contract: PromptContract) -> str:
    r"""The text that ends the thinking and asks for the answer: ``A:`` in the lab, else ``</think>`` and
    ``The final answer is \boxed{``.

    Raises:
        ConfigError: the contract reads answers by a pattern, and no ``answer_prompt`` says how to ask for one.
    """
    if intervention.answer_prompt is None and contract.answer_pattern is not None:
        raise ConfigError(
            f"answer_pattern is {contract.answer_pattern!r}: how an answer of that kind is asked for is not known; "
            "give the text before it as --answer-prompt"
        )
    prompt = intervention.answer_prompt or (LAB_PROMPT if contract.answer_format == "lab" else ANSWER_PROMPT)
    return (contract.think_close or "") + prompt


def answer_begins(text: str, contract: PromptContract) -> int | None:
    """Where a response leaves its thinking; None while it has not, and for a contract without thinking.

    In the lab the answer begins with ``A:``.
    """
    if contract.answer_format == "lab":
        mark = next(lab_marks(text), None)
        return None if mark is None else mark.start
    place = -1 if contract.think_close is None else text.find(contract.think_close)
    return None if place < 0 else place


def confirmed_at(text: str, contract: PromptContract) -> int | None:
    """Where the first confirmed answer ends in text that may still grow; None if none is confirmed.

    Confirmed is an answer that is stated twice (equal `answer_key`), at least once as an answer: in a box, in bold,
    after "the answer is" and the like, or as the result of a whole pass in the lab. An equation alone, twice, is an
    intermediate result as often as not. What stands at the very end may go on (``18`` may become ``18.5``) and
    does not count yet, a closed box does.
    """
    said: dict[str, bool] = {}
    for stated in stated_answers(text, contract.answer_format, contract.answer_pattern):
        key = answer_key(stated.text)
        settled = stated.how == BOXED or stated.end + 1 < len(text)
        if not key or not settled:
            continue
        as_answer = stated.how != EQUATION or contract.answer_format == "lab"
        if key in said and (as_answer or said[key]):
            return stated.end
        said[key] = as_answer or said.get(key, False)
    return None


Due = Callable[[int, Sequence[int]], bool]
"""(row, response so far) -> whether its thinking is to be ended here."""


Read = Callable[[Sequence[int]], str]
"""Response tokens -> text."""


def budget_spent(budget: int, read: Read, contract: PromptContract) -> Due:
    """Due once ``budget`` tokens are written and the answer has not begun."""
    return lambda row, written: len(written) == budget and answer_begins(read(written), contract) is None


class Agreed:
    """Due once an answer is confirmed in the text that ``read`` makes of a response.

    A response is read token by token up to 256 tokens, later each time that it has grown by about a sixty-fourth.
    """

    def __init__(self, read: Read, contract: PromptContract) -> None:
        self._read, self._contract = read, contract
        self._next: dict[int, int] = {}

    def __call__(self, row: int, written: Sequence[int]) -> bool:
        """Whether the response has confirmed an answer and not begun to give it."""
        if len(written) < self._next.get(row, 1):
            return False
        self._next[row] = len(written) + max(1, (len(written) - EVERY_TOKEN_TO) // GROWTH + 1)
        text = self._read(written)
        return answer_begins(text, self._contract) is None and confirmed_at(text, self._contract) is not None


class ForcedEnding:
    """A world that writes ``ending`` once it is due, and cuts the answer ``answer_tokens`` later.

    `started` holds where the ending begins, by row. A response that has to be cut gets one EOS more, which is no
    token of its own: its row is in `cut`.
    """

    def __init__(
        self,
        due: Due,
        ending: Sequence[int],
        *,
        answer_tokens: int,
        eos_id: int,
        otherwise: World | None,
    ) -> None:
        self._due, self._ending, self._eos_id, self._otherwise = due, list(ending), eos_id, otherwise
        self._longest = len(self._ending) + answer_tokens
        self.started: dict[int, int] = {}
        self.cut: set[int] = set()

    def __call__(self, row: int, written: Sequence[int]) -> int | None:
        """The next token of the ending, the EOS that cuts, or what the other world writes."""
        if row not in self.started and self._due(row, written):
            self.started[row] = len(written)
        since = len(written) - self.started.get(row, len(written) + 1)
        if 0 <= since < len(self._ending):
            return self._ending[since]
        if since == self._longest:
            self.cut.add(row)
            return self._eos_id
        return None if self._otherwise is None else self._otherwise(row, written)


class FirstOfGroup:
    """A world that stops the other responses of a group once one of them has finished.

    Groups are ``size`` rows in a row, drawn side by side. A stopped response gets an EOS that is no token of its
    own: its row is in `stopped`. It is up to two tokens longer than the first to finish.
    """

    def __init__(self, size: int, *, eos_id: int, otherwise: World | None) -> None:
        self._size, self._eos_id, self._otherwise = size, eos_id, otherwise
        self._seen: dict[int, int] = {}
        self.stopped: set[int] = set()

    def __call__(self, row: int, written: Sequence[int]) -> int | None:
        """An EOS where a sibling has ended, or what the other world writes."""
        token = None if self._otherwise is None else self._otherwise(row, written)
        self._seen[row] = len(written)
        first = row - row % self._size
        # All rows of a group are asked once per token; one that was last asked two tokens ago is no longer written.
        ended = any(self._seen.get(sibling, 0) < len(written) - 1 for sibling in range(first, first + self._size))
        if ended and token is None:
            self.stopped.add(row)
            return self._eos_id
        return token


def first_to_finish(num_tokens: Sequence[int], finished: Sequence[bool]) -> tuple[int, int]:
    """Which of M responses finishes first, written side by side, and the tokens that all spend until then.

    The finished one with the fewest tokens, the first of equals; where none finishes, the first one with the fewest
    tokens, which was cut. Σ_m min(n_m, n_first) tokens are spent.
    """
    first = min(range(len(num_tokens)), key=lambda m: (not finished[m], num_tokens[m], m))
    return first, sum(min(count, num_tokens[first]) for count in num_tokens)
