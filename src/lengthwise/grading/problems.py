"""Rows made ready to be asked: as text for a server, as token ids for our own sampler, and a grader of responses."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import torch

from lengthwise.engine import Task
from lengthwise.engine.backends.protocol import World
from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.gold_answers import alternatives
from lengthwise.grading.graders import grader_name, load_grader
from lengthwise.grading.prompt_contract import (
    PROBLEM_SLOT,
    PromptContract,
    gold_answer,
    problem_text,
    render,
    split_response,
)
from lengthwise.grading.worker_pool import SafeGrader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WORKERS = 2
"""Processes that grade a batch."""


@dataclass(frozen=True)
class Questions:
    """P problems under one contract, as text: what is asked, what is right, and how a response is read.

    ``ids``: unique names that stay: the row's `problem_id`, else a hash of what is asked, and ``#2`` for one that
    comes again. ``questions``: the problems as the rows have them; ``asked``: with the template around them.
    ``numbers``: places in the source, from 1. ``categories``: each problem's level, or None. ``left_out``: why rows
    are missing, one text each: their reference cannot be read, so no response to them can be graded.
    """

    ids: list[str]
    questions: list[str]
    asked: list[str]
    answers: list[str]
    numbers: list[int]
    categories: list[str] | None
    contract: PromptContract
    left_out: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, first: int, count: int) -> Self:
        """The `count` problems from `first` on."""
        per_problem = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "left_out"}
        cut: dict[str, Any] = {n: v[first : first + count] for n, v in per_problem.items() if isinstance(v, list)}
        return replace(self, **cut)

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with the problems, what is asked and their references."""
        digest = hashlib.sha256()
        for entry in zip(self.ids, self.asked, self.answers, strict=True):
            digest.update(repr(entry).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Problems(Questions):
    """Questions for one model: `texts` and `prompts` are what it is shown, as text and as token ids.

    `grader` decides what is right; `grader_name` is what records call it.
    """

    texts: list[str]
    prompts: list[list[int]]
    tokenizer: PreTrainedTokenizerBase
    grader: Callable[[str, str], object]
    grader_name: str

    def check_room(self, cap: int, positions: int | None, source: str) -> None:
        """See that every prompt leaves room for `cap` response tokens within the model's positions, if they end.

        Raises:
            InputError: one does not; its row of `source` is named.
        """
        for number, prompt in zip(self.numbers, self.prompts, strict=True):
            if positions is not None and len(prompt) + cap > positions:
                raise InputError(
                    f"{source} row {number}: the prompt has {len(prompt)} tokens and the cap is {cap}, but the model "
                    f"allows {positions} positions in all; shorten the prompt or lower the cap"
                )

    def response_text(self, tokens: Sequence[int]) -> str:
        """The text of a response, EOS and what a stop string cut left out."""
        kept = list(tokens)
        if kept and kept[-1] in self.contract.eos_ids:
            kept.pop()
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False)
        for stop in self.contract.stop_strings:
            text = text.split(stop)[0]
        return text

    def is_right(self, problem: int, tokens: Sequence[int]) -> bool:
        """The grader's verdict on one response, whether or not it was cut."""
        return bool(self.grader(self.response_text(tokens), self.answers[problem]))

    def are_right(self, problems: Sequence[int], texts: Sequence[str]) -> list[bool]:
        """The grader's verdicts on many responses, one text for each number of a problem; graded side by side."""
        pairs = [(text, self.answers[problem]) for problem, text in zip(problems, texts, strict=True)]
        if isinstance(self.grader, SafeGrader):
            return [bool(verdict) for verdict in self.grader.grade_all(pairs)]
        return [bool(self.grader(*pair)) for pair in pairs]

    def responses_are_right(self, problems: Sequence[int], responses: Sequence[Sequence[int]]) -> list[bool]:
        """`are_right` of responses as token ids."""
        return self.are_right(problems, [self.response_text(tokens) for tokens in responses])

    def task(self) -> Task:
        """The same problems as something to train on."""
        marked = bool(self.contract.think_kinds)
        return Task(
            self.prompts, self.is_right, self.stops, self.instructed, self.token_id, self.responses_are_right,
            thinking=self.thinking_tokens if marked else None, encode=self.encode,
        )  # fmt: skip

    def thinking_tokens(self, tokens: Sequence[int]) -> int:
        """How many tokens of a response are thinking, its closing mark among them; all where it never closes."""
        text = self.response_text(tokens)
        answer = split_response(self.contract, text)[1]
        if not answer:
            return len(tokens)
        begins = text.rfind(answer)
        return bisect.bisect_left(range(len(tokens)), begins, key=lambda k: len(self.response_text(tokens[:k])))

    def instructed(self, problem: int, words: str) -> list[int]:
        """The prompt of a problem with words before the problem, as token ids."""
        return render(self.contract, self.tokenizer, {self.contract.problem_column: words + self.questions[problem]})[1]

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without special tokens."""
        return [int(token) for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def token_id(self, text: str) -> int:
        """The one token that a text is.

        Raises:
            ConfigError: the tokenizer writes it as several, as none, or as its unknown token.
        """
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(ids) != 1 or ids[0] == self.tokenizer.unk_token_id:
            raise ConfigError(
                f"{text!r} is {self.tokenizer.convert_ids_to_tokens(ids)} to this model's tokenizer; name a text that "
                "is one token that it knows"
            )
        return int(ids[0])

    def stops(self, owners: Sequence[int], generator: torch.Generator) -> World | None:
        """`stop_world`, whatever the problems of the rows; nothing is left to chance."""
        return self.stop_world()

    def stop_world(self) -> World | None:
        """A world that ends a response once a stop string stands in it; None where there are none.

        It writes an EOS, so the response is finished and its length counts the stop string and that EOS.
        """
        if not self.contract.stop_strings:
            return None
        longest = max(len(stop) for stop in self.contract.stop_strings)

        def end(row: int, written: Sequence[int]) -> int | None:
            # A token is at least one character of text, or a piece of one of up to four bytes.
            tail = self.tokenizer.decode(list(written[-4 * longest :]))
            return self.contract.eos_ids[0] if any(s in tail for s in self.contract.stop_strings) else None

        return end


def read_questions(
    rows: Sequence[Mapping[str, object]],
    contract: PromptContract,
    *,
    source: str,
    category_column: str = "level",
    skip_unreadable: bool = False,
    asking: PromptContract | None = None,
) -> Questions:
    """Read what is asked and what is right from rows.

    ``skip_unreadable`` leaves rows out whose reference cannot be read, instead of raising. ``asking`` is the contract
    that prompts are made under, where it differs from the one that names problems and reads responses.

    Raises:
        InputError: no row, or a row without a problem or a readable answer; the row is named.
    """
    if not rows:
        raise InputError(f"{source} holds no rows; give at least one problem")
    kept: list[tuple[int, Mapping[str, object], str, str]] = []
    left_out: list[str] = []
    for number, row in enumerate(rows, 1):
        try:
            problem = problem_text(contract, row)
        except InputError as error:
            raise InputError(f"{source} row {number}: {error}") from error
        try:
            kept.append((number, row, problem, gold_answer(contract, row)))
        except InputError as error:
            left_out.append(f"{source} row {number}: {error}")
    if left_out and not (skip_unreadable and kept):
        raise InputError(left_out[0])
    template, columns = (asking or contract).template, list(zip(*kept, strict=True))
    has_levels = all(category_column in row for row in columns[1])
    return Questions(
        ids=list(_unique(_problem_id(row, contract.template.replace(PROBLEM_SLOT, p)) for _, row, p, _ in kept)),
        questions=list(columns[2]),
        asked=[template.replace(PROBLEM_SLOT, problem) for problem in columns[2]],
        answers=list(columns[3]),
        numbers=list(columns[0]),
        categories=[str(row[category_column]) for row in columns[1]] if has_levels else None,
        contract=contract,
        left_out=left_out,
    )


def prepare(
    rows: Sequence[Mapping[str, object]],
    contract: PromptContract,
    tokenizer: PreTrainedTokenizerBase,
    *,
    cap: int,
    positions: int | None,
    source: str,
    category_column: str = "level",
    grader: Callable[[str, str], object] | str | None = None,
    skip_unreadable: bool = False,
    asking: PromptContract | None = None,
) -> Problems:
    """Render rows under a resolved contract and check that each fits the model with `cap` response tokens.

    ``grader``: your own in place of the contract's, as ``module:function`` or as a function. All but a function, and
    the lab's comparison of texts, grade in worker processes under a time limit (see `worker_pool.SafeGrader`). The
    other options are those of `read_questions`.

    Raises:
        InputError: no row, a row without a problem or a readable answer, or a prompt that leaves no room for the
            cap within `positions`; the row is named.
        ConfigError: the contract does not fit the tokenizer's chat template.
    """
    read = read_questions(
        rows, contract, source=source, category_column=category_column, skip_unreadable=skip_unreadable, asking=asking
    )
    texts, prompts = [], []
    for number in read.numbers:
        try:
            text, ids = render(asking or contract, tokenizer, rows[number - 1])
        except ConfigError:
            raise  # the contract's fault, not the row's
        except InputError as error:
            raise InputError(f"{source} row {number}: {error}") from error
        texts.append(text)
        prompts.append(ids)
    if isinstance(grader, str):
        load_grader(grader)  # a wrong name is a complaint now, not of a worker later
    own = _of_alternatives(grader) if callable(grader) else SafeGrader(contract, grader=grader, workers=WORKERS)
    name = getattr(grader, "__name__", "own grader") if callable(grader) else grader
    found = Problems(
        **{field.name: getattr(read, field.name) for field in fields(Questions)},
        texts=texts,
        prompts=prompts,
        tokenizer=tokenizer,
        grader=own,
        grader_name=name or grader_name(contract.answer_format),
    )
    found.check_room(cap, positions, source)
    return found


def _of_alternatives(grader: Callable[[str, str], object]) -> Callable[[str, str], object]:
    def grade_any(response: str, answer: str) -> object:
        wanted = alternatives(answer)
        return grader(response, answer) if len(wanted) == 1 else any(bool(grader(response, one)) for one in wanted)

    return grade_any


def _problem_id(row: Mapping[str, object], asked: str) -> str:
    given = row.get("problem_id")
    return hashlib.sha256(asked.encode()).hexdigest()[:16] if given in (None, "") else str(given)


def _unique(names: Iterable[str]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for name in names:
        found = name
        while found in seen:
            seen[name] += 1
            found = f"{name}#{seen[name]}"
        seen[found] = 1
        yield found
