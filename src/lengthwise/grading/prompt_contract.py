"""The prompt contract: how a row becomes tokens, and a response becomes an answer.

One value decides it for training, evaluation and adapters alike, and it is written into every record. The
functions here read a contract; none of them guesses. Grading itself is in `graders`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.gold_answers import ALL, ANY, read_gold
from lengthwise.grading.thinking_marks import KINDS, Marks, ends_in, marks_of, split_thinking
from lengthwise.json_types import JsonObject
from lengthwise.template_trial import render_chat

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

ANSWER_FORMATS = ("lab", "gsm8k", "math", "aime", "auto")
PROBLEM_SLOT = "{problem}"


@dataclass(frozen=True)
class PromptContract:
    """How problems are asked and responses are read.

    ``name``: label only. ``chat_template``: render through the tokenizer's chat template. ``system_prompt``:
    a system message, or text before a plain prompt; ``None`` for none. ``template``: what is asked, with one
    ``{problem}``. ``think_prefix``: text pre-filled before the response (``"<think>\\n"``), or ``""``.
    ``think_close``: the text that ends the thinking; ``None`` if responses have no thinking section. If set,
    a response begins inside its thinking. ``think_marks``: a response's own marks tell, whatever their kind: what
    closes its thinking and, without a ``think_close``, whether it has any. ``enable_thinking``: what a chat template
    is told that asks for it; ``None``: nothing. ``think_reason``: why this is so; label only. ``stop_strings``: texts
    that end a response besides EOS. ``eos_ids``: every id that ends a response; empty until `resolve`.
    ``problem_column``, ``answer_column``: columns of a row. ``answer_format``: one of `ANSWER_FORMATS`.
    ``answer_before_close``: whether an answer that is marked as one (boxed, "the answer is") may be read from thinking
    that never closed. ``answer_pattern``: a regular expression with one group, the answer, where responses write it in
    a way of their own; its last match counts and nothing else does. ``answers``: what a list as the reference holds,
    ``"all"`` parts that are wanted together, or ``"any"`` alternatives.
    """

    name: str
    chat_template: bool = False
    system_prompt: str | None = None
    template: str = PROBLEM_SLOT
    think_prefix: str = ""
    think_close: str | None = None
    think_marks: bool = False
    enable_thinking: bool | None = None
    think_reason: str | None = None
    stop_strings: tuple[str, ...] = ()
    eos_ids: tuple[int, ...] = ()
    problem_column: str = "problem"
    answer_column: str = "answer"
    answer_format: str = "auto"
    answer_before_close: bool = False
    answer_pattern: str | None = None
    answers: str = ALL

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop_strings", tuple(self.stop_strings))
        object.__setattr__(self, "eos_ids", tuple(self.eos_ids))
        if self.template.count(PROBLEM_SLOT) != 1:
            raise ConfigError(f"template is {self.template!r}; it must hold {PROBLEM_SLOT} exactly once")
        if self.answer_format not in ANSWER_FORMATS:
            raise ConfigError(unknown_name("answer_format", self.answer_format, ANSWER_FORMATS))
        if self.answers not in (ALL, ANY):
            raise ConfigError(unknown_name("answers", self.answers, (ALL, ANY)))
        if self.think_close == "" or (self.think_prefix and self.think_close is None):
            raise ConfigError(
                f"think_prefix is {self.think_prefix!r} and think_close {self.think_close!r}; a pre-filled "
                'thinking needs the text that ends it ("</think>"), and no thinking needs None'
            )
        if any(not text for text in self.stop_strings):
            raise ConfigError(f"stop_strings is {self.stop_strings}; an empty text would stop every response")
        if self.answer_pattern is not None:
            compile_answer_pattern(self.answer_pattern)

    @property
    def think_open(self) -> str | None:
        """The text that opens a thinking section (``"<think>"``); ``None`` if none is known."""
        known = None if self.think_close is None else marks_of(self.think_close).opens
        return known or self.think_prefix.strip() or None

    @functools.cached_property
    def think_kinds(self) -> tuple[Marks, ...]:
        """The kinds of marks that a response's thinking is read by; empty if it has none."""
        own = () if self.think_close is None else (Marks(self.think_open, self.think_close),)
        return (*own, *(kind for kind in KINDS if kind.closes != self.think_close)) if self.think_marks else own

    def to_dict(self) -> JsonObject:
        """Fields as JSON values, for records."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> PromptContract:
        """Rebuild a contract from `to_dict`; unknown fields raise."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                raise ConfigError(unknown_name("field of a prompt contract", name, known))
        if "name" not in fields:
            raise ConfigError('a prompt contract needs a "name"')
        return cls(**fields)

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any field that is no label; ``+marks`` follows where those tell."""
        fields = self.to_dict()
        for name in ("name", "think_reason", "think_marks"):
            del fields[name]
        for name in ("answer_pattern", "enable_thinking"):  # contracts keep the fingerprint from before these fields
            if fields[name] is None:
                del fields[name]
        if self.answers == ALL:
            del fields["answers"]
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
        return digest + ("+marks" if self.think_marks else "")


_STEP_BY_STEP = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}."
_REASONING: dict[str, Any] = {
    "chat_template": True,
    "template": _STEP_BY_STEP,
    "think_prefix": "<think>\n",
    "think_close": "</think>",
}

PRESETS: dict[str, PromptContract] = {
    "lab": PromptContract("lab", answer_format="lab"),
    "gsm8k": PromptContract("gsm8k", problem_column="question", answer_format="gsm8k", **_REASONING),
    "math": PromptContract("math", answer_format="math", **_REASONING),
    "aime": PromptContract("aime", answer_format="aime", **_REASONING),
}
"""Contracts for known data. All but ``lab`` are for reasoning models that write ``<think>...</think>``; for a
model that answers directly use ``preset(name, think_prefix="", think_close=None)``, for one without a chat
template ``chat_template=False``."""


def preset(name: str, **changes: Any) -> PromptContract:
    """A named contract, with fields changed: ``preset("gsm8k", chat_template=False)``."""
    if name not in PRESETS:
        raise ConfigError(unknown_name("prompt contract", name, PRESETS))
    known = [field.name for field in dataclasses.fields(PromptContract)]
    for field in changes:
        if field not in known:
            raise ConfigError(unknown_name("field of a prompt contract", field, known))
    return dataclasses.replace(PRESETS[name], **changes)


def resolve(
    contract: PromptContract,
    tokenizer: PreTrainedTokenizerBase,
    generation_config: GenerationConfig | None = None,
) -> PromptContract:
    """Complete a contract for one model: all EOS ids, and a chat template that exists.

    The ids are those of the contract, the generation config and the tokenizer together, sorted: a chat model
    often ends its turn with another token than its tokenizer's EOS. Raises when there is none, or when the
    contract wants a chat template that the tokenizer does not have.
    """
    ids: set[int] = set(contract.eos_ids)
    for source in (generation_config, tokenizer):
        found = getattr(source, "eos_token_id", None)
        ids.update(found if isinstance(found, (list, tuple)) else () if found is None else (found,))
    if not ids:
        raise ConfigError(
            "neither the generation config nor the tokenizer names an EOS token, so no response could end; "
            "set eos_token_id in one of them, or eos_ids in the prompt contract"
        )
    if contract.chat_template and not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            f"the prompt contract {contract.name!r} wants a chat template but the tokenizer has none; "
            "use a tokenizer that has one, or chat_template=False (--no-chat-template)"
        )
    return dataclasses.replace(contract, eos_ids=tuple(sorted(ids)))


def render(
    contract: PromptContract, tokenizer: PreTrainedTokenizerBase, row: Mapping[str, object]
) -> tuple[str, list[int]]:
    """Turn a row into the prompt: its text and its token ids.

    A thinking prefix is appended; where the chat template already opened the thinking, it takes the place of
    that opening. EOS tokens that a tokenizer appends to plain text are taken off: a prompt that has ended
    cannot be continued. Raises for a missing or empty problem, a chat template that opens a thinking section
    the contract knows nothing of, and text that the tokenizer can only write as its unknown token.
    """
    asked = contract.template.replace(PROBLEM_SLOT, problem_text(contract, row))
    text = _chat_prompt(contract, tokenizer, asked) if contract.chat_template else plain_text(contract, asked)
    # A chat template writes its own BOS, so special tokens are only added to plain text.
    ids = list(tokenizer(text, add_special_tokens=not contract.chat_template)["input_ids"])
    while ids and ids[-1] in (*contract.eos_ids, tokenizer.eos_token_id) and not contract.chat_template:
        ids.pop()
    if not ids:
        raise InputError(f"the prompt {text!r} has no tokens; check the template and the tokenizer")
    _refuse_unknown(tokenizer, text, ids)
    return text, ids


def gold_answer(contract: PromptContract, row: Mapping[str, object]) -> str:
    """The reference answer of a row as text (see `gold_answers.read_gold`), read as the contract says.

    Raises:
        InputError: there is none to read. Such a problem is left out and counted, never graded right.
    """
    column = contract.answer_column
    if column not in row:
        raise InputError(f"no column {column!r} in the row; it has {', '.join(map(str, row)) or 'no columns'}")
    return read_gold(row[column], contract.answer_format, column, answers=contract.answers)


def split_response(contract: PromptContract, text: str) -> tuple[str, str, bool]:
    """Split a response into ``(thinking, answer_text, closed)``.

    Without a thinking section all of it is answer and ``closed`` is true. With a ``think_close`` the response begins
    in its thinking and that mark ends it; a later opening mark begins thinking again, and a second closing mark
    without one makes all before it thinking. ``closed`` is whether it ended outside its thinking; if not,
    ``answer_text`` is empty, so that nothing is ever read from unfinished thinking by mistake.
    """
    return split_thinking(text, contract.think_kinds, begins=contract.think_close is not None)


def compile_answer_pattern(pattern: str) -> re.Pattern[str]:
    """Compile an answer pattern; `ConfigError` unless it is a regular expression with exactly one group."""
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(
            f"answer_pattern is {pattern!r}, which is no regular expression ({error}); for example 'Result: (.+)'"
        ) from error
    if compiled.groups != 1:
        raise ConfigError(
            f"answer_pattern is {pattern!r} with {compiled.groups} groups; it needs exactly one, the answer; "
            "put (...) around the answer, and write other groups as (?:...)"
        )
    return compiled


def unknown_name(what: str, name: object, known: Iterable[object]) -> str:
    """Message for a name that is not in a list: the name, the nearest ones, the list."""
    names = [str(entry) for entry in known]
    near = difflib.get_close_matches(str(name), names, n=2)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown {what} {str(name)!r}; {hint}choose one of {', '.join(names)}"


def problem_text(contract: PromptContract, row: Mapping[str, object]) -> str:
    """The problem of a row as it stands there; `InputError` when there is none."""
    column = contract.problem_column
    if column not in row:
        raise InputError(f"no column {column!r} in the row; it has {', '.join(map(str, row)) or 'no columns'}")
    problem = row[column]
    if not isinstance(problem, str) or not problem.strip():
        raise InputError(f"{column} is {problem!r}; a problem is text that is not empty")
    return problem


def plain_text(contract: PromptContract, asked: str) -> str:
    """A prompt without a chat template: what is asked between the system prompt and the pre-filled thinking."""
    before = f"{contract.system_prompt}\n\n" if contract.system_prompt else ""
    return before + asked + contract.think_prefix


def chat_text(contract: PromptContract, tokenizer: PreTrainedTokenizerBase, asked: str) -> str:
    """A prompt as the chat template makes it, nothing pre-filled; `ConfigError` where the template refuses it."""
    messages = [{"role": "user", "content": asked}]
    if contract.system_prompt:
        messages.insert(0, {"role": "system", "content": contract.system_prompt})
    # Templates call it by either name; those that know neither pass over both.
    told = contract.enable_thinking
    return render_chat(tokenizer, messages, **({} if told is None else {"enable_thinking": told, "thinking": told}))


def _chat_prompt(contract: PromptContract, tokenizer: PreTrainedTokenizerBase, asked: str) -> str:
    text = chat_text(contract, tokenizer, asked)
    ending = text.rstrip()
    if contract.think_close is None and (kind := ends_in(ending)) is not None:
        raise ConfigError(
            f"the chat template opens a thinking section but the prompt contract {contract.name!r} has none; "
            f"set think_prefix={kind.first!r} and think_close={kind.closes!r}, or leave --think no out"
        )
    opens = contract.think_open
    for opened in (contract.think_prefix.rstrip(), opens):  # as some write more than a mark
        if contract.think_prefix and opened and ending.endswith(opened):
            return ending.removesuffix(opened) + contract.think_prefix
    return text + contract.think_prefix


def _refuse_unknown(tokenizer: PreTrainedTokenizerBase, text: str, ids: list[int]) -> None:
    # A word-level tokenizer may write unknown words as its padding token; a prompt has neither by right.
    for token, token_id in (
        (tokenizer.unk_token, tokenizer.unk_token_id),
        (tokenizer.pad_token, tokenizer.pad_token_id),
    ):
        added_by_right = token_id in (None, tokenizer.bos_token_id, tokenizer.eos_token_id) or token in text
        if not added_by_right and token_id in ids:
            raise InputError(
                f"the tokenizer cannot write token {ids.index(token_id) + 1} of the prompt {text!r}: it "
                f"becomes {token!r}; use data made for this model, or remove the row"
            )
