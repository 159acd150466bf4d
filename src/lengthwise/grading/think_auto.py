"""Whether responses begin in their thinking, decided for one model by its chat template and its vocabulary.

What is pre-filled before a response must be text that the model knows: to one that never saw ``<think>`` it is foreign,
and all that follows is another model's answer.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from lengthwise.errors import ConfigError
from lengthwise.grading.prompt_contract import PromptContract, chat_text, unknown_name
from lengthwise.grading.thinking_marks import KINDS, Marks, ends_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AUTO, YES, NO, MARKS = "auto", "yes", "no", "marks"
MODES = (AUTO, YES, NO, MARKS)
_SPECIAL = re.compile(r"<\|[^|<>]+\|>")


def check_mode(think: str) -> str:
    """The mode itself; `ConfigError` unless it is one of `MODES`."""
    if think not in MODES:
        raise ConfigError(unknown_name("think", think, MODES))
    return think


def decide(contract: PromptContract, tokenizer: PreTrainedTokenizerBase, think: str = AUTO) -> PromptContract:
    """The contract with its thinking settled for a model; one without a thinking section stays as it is.

    ``auto``: responses begin in their thinking if the chat template opens it by itself, or if template and vocabulary
    both know the marks and the template neither closes the thinking before the response nor has it switched off;
    `PromptContract.think_reason` says which. Where nothing is pre-filled, a response's own marks tell. ``yes``: they
    do, with the marks that the model knows, else the contract's own. ``no``: they have no thinking. ``marks``: nothing
    is pre-filled, and a response's own marks tell. A template that can be told so (``enable_thinking``) is told ``yes``
    or ``no``, and nothing under the others.
    """
    check_mode(think)
    if contract.think_close is None:
        return contract
    if think == MARKS:
        return replace(_without(contract), think_marks=True)
    renders = contract.chat_template and bool(tokenizer.chat_template)
    told = _ending(contract, tokenizer, None) if renders else ""
    asked = {value: _ending(contract, tokenizer, value) if renders else "" for value in (True, False)}
    heeded = asked[True] != asked[False]
    if think == NO:
        return _without(replace(contract, enable_thinking=False if heeded else None))
    if think == YES:
        ready = replace(contract, enable_thinking=True if heeded else None)
        return _opened(ready, asked[True] if heeded else told) or _pre_filled(ready, tokenizer)
    opened = _opened(contract, told)
    if opened is not None:
        return replace(opened, think_reason=f"the chat template opens it by itself ({opened.think_open})")
    closed = next((kind for kind in KINDS if told.rstrip().endswith(kind.closes)), None)
    if closed is not None:
        return _undecided(contract, f"the chat template closes it before the response ({closed.closes})")
    if heeded and told == asked[False]:
        return _undecided(contract, "the chat template has it switched off (enable_thinking)")
    kinds = _known(tokenizer)
    if not kinds:
        return _undecided(contract, _unknown(tokenizer))
    said = f"{_prefix(contract, kinds[0])!r} is pre-filled, which chat template and vocabulary both know"
    return replace(_pre_filled(contract, tokenizer), think_reason=said)


def undecided(contract: PromptContract) -> PromptContract:
    """The contract for a server whose tokenizer is not at hand: nothing is pre-filled, marks tell."""
    if contract.think_close is None:
        return contract
    return _undecided(contract, "without --tokenizer nothing tells whether the model thinks")


def switched_off(contract: PromptContract, tokenizer: PreTrainedTokenizerBase | None) -> PromptContract:
    """The contract of a model that is told not to think, by its chat template's own switch; its marks tell if it does.

    Raises:
        ConfigError: there is no chat template, or none with such a switch; without a tokenizer that is not known.
    """
    if not contract.chat_template or (tokenizer is not None and not tokenizer.chat_template):
        raise ConfigError("no_think switches the thinking off through a chat template, and there is none; leave it out")
    if tokenizer is not None and len({_ending(contract, tokenizer, told) for told in (True, False)}) == 1:
        raise ConfigError(
            "no_think needs a chat template that heeds enable_thinking, and this model's does not; --think no takes "
            "all of a response for its answer, --concise asks for brevity"
        )
    return replace(_without(contract), enable_thinking=False, think_marks=True, think_reason=None)


def as_rendered(contract: PromptContract, tokenizer: PreTrainedTokenizerBase) -> PromptContract:
    """The contract with the thinking that the chat template opens by itself, if it does; nothing is added to it."""
    if not (contract.chat_template and tokenizer.chat_template):
        return contract
    return _opened(contract, _ending(contract, tokenizer, None)) or contract


def _ending(contract: PromptContract, tokenizer: PreTrainedTokenizerBase, enable_thinking: bool | None) -> str:
    """A prompt as the chat template alone makes it."""
    return chat_text(replace(contract, enable_thinking=enable_thinking), tokenizer, "?")


def _opened(contract: PromptContract, text: str) -> PromptContract | None:
    """The contract of a prompt that ends in an open thinking section; None where it does not."""
    kind = ends_in(text)
    if kind is None or kind.opens is None:
        return None
    return replace(contract, think_prefix=text[text.rindex(kind.opens) :], think_close=kind.closes)


def _pre_filled(contract: PromptContract, tokenizer: PreTrainedTokenizerBase) -> PromptContract:
    """The contract with the marks that the model knows; its own where it knows none."""
    kinds = _known(tokenizer)
    if not kinds:
        return contract
    return replace(contract, think_prefix=_prefix(contract, kinds[0]), think_close=kinds[0].closes)


def _prefix(contract: PromptContract, kind: Marks) -> str:
    return contract.think_prefix if kind.closes == contract.think_close else kind.first


def _without(contract: PromptContract) -> PromptContract:
    return replace(contract, think_prefix="", think_close=None)


def _undecided(contract: PromptContract, why: str) -> PromptContract:
    said = f"nothing is pre-filled: {why}. Marks in a response tell; --think yes pre-fills {contract.think_prefix!r}"
    return replace(_without(contract), think_marks=True, think_reason=said)


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the chat template, of all of them where there are several by name."""
    found = tokenizer.chat_template
    return "\n".join(map(str, found.values())) if isinstance(found, dict) else found or ""


def _mentioned(tokenizer: PreTrainedTokenizerBase) -> list[Marks]:
    """Kinds of which a mark stands in the chat template."""
    template = _template(tokenizer)
    return [kind for kind in KINDS if kind.closes in template or (kind.opens or kind.closes) in template]


def _in_vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[Marks]:
    """Kinds of which both marks are tokens of their own, or begin and end with such."""
    there = tokenizer.get_vocab()
    marks = {kind: [*_tokens(kind.opens or ""), *_tokens(kind.closes)] for kind in KINDS}
    return [kind for kind, tokens in marks.items() if all(token in there for token in tokens)]


def _tokens(mark: str) -> list[str]:
    return _SPECIAL.findall(mark) or [mark]


def _known(tokenizer: PreTrainedTokenizerBase) -> list[Marks]:
    """Kinds that chat template and vocabulary both know."""
    vocabulary = _in_vocabulary(tokenizer)
    return [kind for kind in _mentioned(tokenizer) if kind in vocabulary]


def _unknown(tokenizer: PreTrainedTokenizerBase) -> str:
    """Why no kind is known to both."""
    if not tokenizer.chat_template:
        return "the tokenizer has no chat template that could know of thinking"
    if mentioned := _mentioned(tokenizer):
        return f"the chat template knows {mentioned[0].opens}, the vocabulary does not"
    if there := _in_vocabulary(tokenizer):
        return f"the vocabulary knows {there[0].opens}, the chat template does not"
    return "neither chat template nor vocabulary knows any mark of thinking"
