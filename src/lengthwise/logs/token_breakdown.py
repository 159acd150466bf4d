"""Anatomy of one response: its verdict, and where its tokens go.

Applied row by row in worker processes (`worker_pool.IsolatedPool`), so nothing here imports torch in a worker.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.files import read_json
from lengthwise.grading.answer_extraction.answer_text import answer_key
from lengthwise.grading.answer_extraction.stated_answers import stated_answers
from lengthwise.grading.gold_answers import ANY, alternatives, read_gold
from lengthwise.grading.graders import Grader, Verdict, grade, load_grader, ready_for
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.grading.thinking_marks import THINK_CLOSE, thinking_sections
from lengthwise.pretrained import load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNREADABLE_GOLD = "an answer that cannot be read"
PIECE = 50_000  # characters that are tokenised at once
LONGEST_SHOWN = 200  # characters of an extracted answer that are kept
AUTO = PromptContract("auto", think_marks=True)


@dataclass(frozen=True)
class Words:
    """A tokenizer that any process can load: its `tokenizers` JSON text and the ids of its special tokens.

    ``name``: class and size of the vocabulary, as records have it. ``pattern``: finds the same tokens by `re`, several
    times as fast, in texts of up to `PIECE` characters that are plain (`_is_plain`).
    """

    name: str
    text: str
    special: frozenset[int]
    pattern: str | None = None

    def quick(self, text: str) -> bool:
        """Whether a text is counted by the pattern."""
        return self.pattern is not None and len(text) <= PIECE and _is_plain(text)


@dataclass(frozen=True)
class Body:
    """What is taken apart: the whole response, and the reference (anything `gold_answers.read_gold` reads).

    ``answer`` None: there is none, and the response is not graded. ``thinks``: its thinking was given apart and stands
    at its beginning, without an opening mark. ``any_of``: the reference is a list of alternatives.
    """

    text: str
    answer: object
    thinks: bool = False
    any_of: bool = False


@dataclass(frozen=True)
class Anatomy:
    """One response taken apart.

    ``verdict`` and ``gold`` None: it had no reference. ``vote``: its answer in the form that equal answers share
    (None: no answer was read). ``gold``: the reference in that form. ``thinks``: it has a thinking section;
    ``closed``: it ended outside of it. ``right_stated``: the right answer stands in it, in thinking or answer. Tokens
    of the text, None without a tokenizer: ``tokens`` all, ``thinking`` those of thinking sections with their marks,
    ``to_right`` those up to the end of the first right statement (None also where there is none). ``ended``: its last
    token is a special one, such as EOS. ``right_end``: where the first right statement ends in the text, in characters.
    """

    verdict: Verdict | None
    vote: str | None
    gold: str | None
    thinks: bool
    closed: bool
    right_stated: bool
    tokens: int | None = None
    thinking: int | None = None
    to_right: int | None = None
    ended: bool = False
    right_end: int | None = None


@dataclass(frozen=True)
class Anatomist:
    """Makes the function that takes responses apart; picklable, so that a worker can call it.

    ``grader``: your own, ``module:function``, in place of the contract's. Without ``words`` no token is counted.
    """

    contract: PromptContract = AUTO
    grader: str | None = None
    words: Words | None = None

    def __call__(self) -> Callable[[Body], Anatomy | Defect | None]:
        """Load the grader and the tokenizer, so that no response pays for it with its time."""
        own = None if self.grader is None else load_grader(self.grader)
        if own is None:
            ready_for(self.contract.answer_format)
        counter = None if self.words is None else Counter(self.words)
        return lambda body: dissect(body, self.contract_of(body), own, counter)

    def alone(self, body: Body) -> bool:
        """Whether a response takes no time worth a worker: nothing is compared, and what is counted is counted fast."""
        return body.answer is None and (self.words is None or self.words.quick(body.text))

    def marks_of(self, body: Body, counter: Counter | None) -> Anatomy | Defect:
        """A response without a reference taken apart."""
        return dissect(replace(body, answer=None), self.contract_of(body), None, counter)

    def contract_of(self, body: Body) -> PromptContract:
        """The contract that one response is read under."""
        contract = replace(self.contract, answers=ANY) if body.any_of else self.contract
        if not body.thinks:
            return contract
        return replace(contract, think_close=contract.think_close or THINK_CLOSE, think_marks=True)


class Counter:
    """Counts tokens with a tokenizer that is loaded from `Words`."""

    def __init__(self, words: Words) -> None:
        from tokenizers import Tokenizer

        self.tokenizer: Tokenizer = Tokenizer.from_str(words.text)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.special = words.special
        self._words = words
        self._pattern = re.compile(words.pattern or "")

    def __call__(self, text: str) -> tuple[list[int], bool]:
        """Where each token starts, int [T] in characters, and whether the last one is a special token.

        Texts of over `PIECE` characters are read in pieces that end before a space, so that memory is bounded; a
        token may be split at each such end.
        """
        if self._words.quick(text):
            return [found.start() for found in self._pattern.finditer(text)], False
        starts: list[int] = []
        begin, last = 0, None
        while begin < len(text):
            end = begin + PIECE
            if end < len(text):
                end = max(text.rfind(" ", begin + 1, end), text.rfind("\n", begin + 1, end))
                end = end if end > 0 else begin + PIECE
            encoding = self.tokenizer.encode(text[begin:end], add_special_tokens=False)
            starts += [begin + start for start, _ in encoding.offsets]
            begin, last = end, encoding.ids[-1] if encoding.ids else None
        return starts, last in self.special


def _is_plain(text: str) -> bool:
    """Whether `re` and Unicode's own classes agree on all characters of a text; `re` takes odd numbers for letters."""
    return (text.isascii() and text.isprintable()) or not any(map(_is_odd, set(text)))


@cache
def _is_odd(character: str) -> bool:
    return unicodedata.category(character) in ("Nl", "No", "Cn") or "\x1c" <= character <= "\x1f"


def load_words(folder: str | Path, *, trust_remote_code: bool = False) -> Words:
    """Read the tokenizer of a Hugging Face folder; a model need not be in it.

    Without transformers its ``tokenizer.json`` is read as it stands (`words_of_file`).

    Raises:
        InputError: no such folder, no tokenizer in it that can be loaded, or one without words or without a fast
            form (``tokenizer.json``), whose tokens cannot be placed in the text.
    """
    if find_spec("transformers") is None:
        return words_of_file(Path(folder))
    tokenizer = load_tokenizer(folder, name="tokenizer", trust_remote_code=trust_remote_code)
    special = frozenset(tokenizer.all_special_ids)
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer is {str(folder)!r}: no tokenizer.json with words in it; copy the model's there")
    return Words(f"{type(tokenizer).__name__}/{len(tokenizer)}", tokenizer.backend_tokenizer.to_str(), special)


def words_of_file(folder: Path) -> Words:
    """A folder's ``tokenizer.json``, read without transformers; special are the tokens that the folder names by role.

    Raises:
        InputError: no such folder, no ``tokenizer.json`` in it, or one that cannot be read.
    """
    from tokenizers import Tokenizer

    if not folder.is_dir():
        raise InputError(f"tokenizer is {str(folder)!r}: no such folder; give a local Hugging Face folder")
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InputError(f"tokenizer is {str(folder)!r}: no tokenizer.json with words in it; copy the model's there")
    text = file.read_text(encoding="utf-8")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises Exception itself
        raise InputError(f"{file} cannot be read as a tokenizer ({error}); restore it") from error
    named = (tokenizer.token_to_id(token) for token in _named_tokens(folder))
    special = frozenset(number for number in named if number is not None)
    return Words(f"tokenizer.json/{tokenizer.get_vocab_size()}", text, special)


def _named_tokens(folder: Path) -> Iterator[str]:
    """The tokens that begin, end and pad texts, and the like, as a folder's files name them."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        found = read_json(folder / name) if (folder / name).is_file() else {}
        for role, token in found.items() if isinstance(found, dict) else ():
            text = token.get("content") if isinstance(token, dict) else token
            if role.endswith("_token") and isinstance(text, str):
                yield text


def dissect(body: Body, contract: PromptContract, own: Grader | None, counter: Counter | None) -> Anatomy | Defect:
    """Grade a response, find where the right answer first stands in it, and count its tokens.

    A right statement is one whose `answer_key` is the reference's, or that of the answer which the grader found
    right. A reference that cannot be read is a `Defect`: such a row is left out, never graded. Without a reference
    only the thinking is told apart and counted.
    """
    begins = contract.think_close is not None
    sections, closed = thinking_sections(body.text, contract.think_kinds, begins=begins)
    thinks, closed = begins or bool(sections), closed or not body.text.strip()
    right_end = None
    if body.answer is None:
        anatomy = Anatomy(None, None, None, thinks, closed, right_stated=False)
    else:
        try:
            gold = read_gold(body.answer, contract.answer_format, answers=contract.answers)
        except InputError as error:
            return Defect(UNREADABLE_GOLD, str(error))
        anatomy, right_end = _graded(body, gold, contract, own, thinks, closed)
    if counter is None:
        return anatomy
    starts, ended = counter(body.text)
    return replace(
        anatomy,
        tokens=len(starts),
        thinking=sum(bisect_left(starts, end) - bisect_left(starts, start) for start, end in sections),
        to_right=None if right_end is None else bisect_left(starts, right_end),
        ended=ended,
    )


def _graded(
    body: Body, gold: str, contract: PromptContract, own: Grader | None, thinks: bool, closed: bool
) -> tuple[Anatomy, int | None]:
    """The verdict, and where the first right statement ends."""
    verdict = grade(body.text, body.answer, contract=contract) if own is None else own(body.text, gold)
    right_keys = list(map(answer_key, alternatives(gold)))
    found_key = None if verdict.extracted is None else answer_key(verdict.extracted)
    also = [found_key] if verdict.correct and found_key is not None else []
    right_end = _first_right(body.text, contract, {*right_keys, *also})
    right_key = " | ".join(right_keys)
    anatomy = Anatomy(
        verdict=replace(verdict, extracted=_shown(verdict.extracted)),
        # One vote for all right answers, however they are written.
        vote=None if found_key is None else _short_key(right_key if verdict.correct else found_key),
        gold=_short_key(right_key),
        thinks=thinks,
        closed=closed,
        right_stated=right_end is not None,
        right_end=right_end,
    )
    return anatomy, right_end


def _first_right(text: str, contract: PromptContract, keys: Collection[str]) -> int | None:
    stated = stated_answers(text, contract.answer_format, contract.answer_pattern)
    return next((at.end for at in stated if answer_key(at.text) in keys), None)


def _shown(text: str | None) -> str | None:
    return text if text is None or len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def _short_key(key: str) -> str:
    return key if len(key) <= LONGEST_SHOWN else hashlib.sha256(key.encode()).hexdigest()
