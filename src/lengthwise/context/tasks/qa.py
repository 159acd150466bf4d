"""Questions about a document filled up with other text; the sentence with the answer stands in a chosen place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from lengthwise.context.tasks.rows import LEAST_FILLED, TaskRow, Template, check_request, count_tokens, dice, plain
from lengthwise.data import read_rows, require_columns
from lengthwise.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

MOST_WORDS, REDRAWS = 5, 20
ENOUGH = 0.97
"""Share of the wanted filler at which no further sentence is looked for."""
YEARS, YEAR_SPREAD = (1000, 2100), 10
PLACES = {"start": (0.0, 0.1), "random": (0.1, 0.9), "end": (0.9, 1.0)}
"""Share of filler tokens before the evidence; the first two intervals are open on the right."""
CONDITIONS = [(question, place) for place in PLACES for question in ("end", "start")]
"""The six rows of a source row in order: index mod 2 says where the question stands, (index mod 6) div 2 the answer."""
INSTRUCTION = "Read the following text and answer the question about it in a few words."
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\s*\n+\s*")


@dataclass(frozen=True)
class Source:
    """A document with a question and its short answer."""

    document: str
    question: str
    answer: str

    @cached_property
    def sentences(self) -> list[str]:
        """The document in sentences."""
        return [part for part in _SENTENCE_END.split(self.document) if part.strip()]


@dataclass(frozen=True)
class Built:
    """Rows of a QA task, and how many source rows were left out, by reason."""

    rows: list[TaskRow]
    left_out: Counter[str]


def read_sources(path: str | Path) -> list[Source]:
    """Source rows with columns document, question and answer.

    Raises:
        InputError: a file or row that is not one, a blank answer.
    """
    rows = require_columns(read_rows(path), ("document", "question", "answer"), str(path))
    return [Source(str(row["document"]), str(row["question"]), str(row["answer"])) for row in rows]


def read_released(path: str | Path, tokenizer: Tokenizer, *, task: str, template: Template = plain) -> list[TaskRow]:
    """The rows of a released WikiQA file: ``conversations`` of prompt and answer; the index gives the condition.

    Raises:
        InputError: a file or row that is not one, a blank answer.
    """
    rows = require_columns(read_rows(path), ("conversations",), str(path))
    made = []
    for number, row in enumerate(rows, 1):
        try:
            turns = row["conversations"]
            if not isinstance(turns, list):
                raise TypeError(f"it is {turns!r}")
            prompt, answer = (str(turn["value"]) for turn in turns[:2])
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(
                f"{path}, row {number}: conversations holds no prompt and answer ({error!r}); mend or remove the row"
            ) from error
        _refuse_blank(answer)
        made.append((template(prompt), answer))
    counts = count_tokens(tokenizer, [prompt for prompt, _ in made], special=True)
    return [
        TaskRow(
            task,
            prompt,
            answer.strip(),
            count,
            labels=dict(zip(("question", "answer"), CONDITIONS[i % 6], strict=True)),
        )
        for i, ((prompt, answer), count) in enumerate(zip(made, counts, strict=True))
    ]


def freeform_rows(
    sources: Sequence[Source], tokenizer: Tokenizer, *, length: int, rows: int | None = None, seed: int = 0,
    template: Template = plain,
) -> Built:  # fmt: skip
    """Six rows of ``length`` tokens per source row: the answer at start, random, end; question last or first.

    The evidence is the first sentence with the answer; every other sentence with it (whatever its case) is dropped,
    and the text is filled with the document's other sentences, then those of the other documents. Answers of more
    than 5 words, or that are in no sentence, are left out and counted. ``rows``: stop at so many.

    "Giraffe: Adventures in Expanding Context Lengths in LLMs", arXiv 2308.10882; where the authors' sets moved the
    answer to, and how they split sentences, is not published.

    Raises:
        ConfigError: a number out of range.
        InputError: a blank answer, or no source row that can be used.
    """
    return _build("freeform-qa", sources, tokenizer, length, rows, seed, template, _as_it_is)


def altered_rows(
    sources: Sequence[Source], tokenizer: Tokenizer, *, length: int, rows: int | None = None, seed: int = 0,
    template: Template = plain,
) -> Built:  # fmt: skip
    """As `freeform_rows`, for plain integers, each replaced by another: a model that answers from memory is wrong.

    A year (1000..2100) moves by at most 10; other numbers keep their digits' count. Every whole-number occurrence in
    the document is replaced. Left out and counted: other answers, a question with the old number, a new number that the
    document already has after 20 redraws.

    Raises:
        ConfigError: a number out of range.
        InputError: a blank answer, or no source row that can be used.
    """
    return _build("altered-qa", sources, tokenizer, length, rows, seed, template, _altered)


def whole_number(number: str) -> re.Pattern[str]:
    """Occurrences of a number as a whole: not beside a digit, nor beside a ``.`` or ``,`` that joins one."""
    return re.compile(rf"(?<![0-9])(?<![0-9][.,]){re.escape(number)}(?![0-9])(?![.,][0-9])")


def new_number(old: str, rng: Random) -> str:
    """Another number: within 10 of a year, else uniform over those of as many digits, the first not 0."""
    if len(old) == 4 and YEARS[0] <= int(old) <= YEARS[1]:
        return str(int(old) + rng.choice([d for d in range(-YEAR_SPREAD, YEAR_SPREAD + 1) if d]))
    least = 10 ** (len(old) - 1)
    while (found := str(rng.randint(least, 10 * least - 1))) == old:
        pass
    return found


_Prepared = tuple[Source, str | None] | str
"""A source row and the number that its answer replaced, or why it is left out."""


def _as_it_is(source: Source, rng: Random) -> _Prepared:
    return source, None


def _altered(source: Source, rng: Random) -> _Prepared:
    old = source.answer.strip()
    if not re.fullmatch(r"[0-9]+", old):
        return "the answer is no plain integer"
    pattern = whole_number(old)
    if not pattern.search(source.document):
        return "the number is not in the document as a whole"
    if pattern.search(source.question):
        return "the question holds the number"
    for _ in range(1 + REDRAWS):
        new = new_number(old, rng)
        if new not in source.document:
            return Source(pattern.sub(new, source.document), source.question, new), old
    return "no new number that the document lacks"


@dataclass(frozen=True)
class _Library:
    """Every sentence of every document with its tokens, counted once."""

    documents: list[str]
    sentences: list[list[str]]
    lowered: list[list[str]]
    tokens: list[list[int]]

    @classmethod
    def of(cls, sources: Sequence[Source], tokenizer: Tokenizer) -> _Library:
        sentences = [source.sentences for source in sources]
        counts = iter(count_tokens(tokenizer, [f" {sentence}" for part in sentences for sentence in part]))
        return cls(
            [source.document for source in sources],
            sentences,
            [[sentence.lower() for sentence in part] for part in sentences],
            [[next(counts) for _ in part] for part in sentences],
        )

    def of_document(self, index: int) -> Iterator[tuple[str, str, int]]:
        """The sentences of a document, in lower case too, with their tokens."""
        return zip(self.sentences[index], self.lowered[index], self.tokens[index], strict=True)


def _build(
    task: str, sources: Sequence[Source], tokenizer: Tokenizer, length: int, rows: int | None, seed: int,
    template: Template, prepare: Callable[[Source, Random], _Prepared],
) -> Built:  # fmt: skip
    check_request(length, 1 if rows is None else rows, seed)
    for source in sources:
        _refuse_blank(source.answer)
    library, left_out, made = _Library.of(sources, tokenizer), Counter[str](), list[TaskRow]()
    for index, source in enumerate(sources):
        if rows is not None and len(made) >= rows:
            break
        prepared = prepare(source, dice(seed, task, length, index))
        found = prepared if isinstance(prepared, str) else _six(
            task, *prepared, index, library, tokenizer, length, seed, template
        )  # fmt: skip
        if isinstance(found, str):
            left_out[found] += 1
        else:
            made += found
    if not made:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise InputError(f"sources give no row of {task} with {length} tokens ({reasons or 'there are none'})")
    return Built(made[:rows], left_out)


def _six(
    task: str, source: Source, old: str | None, index: int, library: _Library, tokenizer: Tokenizer, length: int,
    seed: int, template: Template,
) -> list[TaskRow] | str:  # fmt: skip
    """The six rows of a source row, or why there are none."""
    answer = source.answer.strip()
    if len(answer.split()) > MOST_WORDS:
        return f"the answer has more than {MOST_WORDS} words"
    holds = whole_number(answer).search if old is not None else lambda sentence: answer in sentence
    evidence = next((sentence for sentence in source.sentences if holds(sentence)), None)
    if evidence is None:
        return "the answer is in no sentence"
    prompts = [_prompt(source, [], [], evidence, question, template) for question in ("end", "start")]
    bare = max(count_tokens(tokenizer, prompts, special=True))
    if bare > length:
        return "question and evidence alone are longer than the length"
    filler, exhausted = _filler(source, old, index, library, tokenizer, length - bare)
    rng, used = dice(seed, task, length, index, "places"), len(filler)
    shares = [rng.uniform(*PLACES[place]) for _, place in CONDITIONS]
    while True:
        sentences, sums = [sentence for sentence, _ in filler[:used]], [0, *accumulate(t for _, t in filler[:used])]
        cuts = [_cut(sums, share, place) for (_, place), share in zip(CONDITIONS, shares, strict=True)]
        prompts = [
            _prompt(source, sentences[:cut], sentences[cut:], evidence, question, template)
            for (question, _), (cut, _) in zip(CONDITIONS, cuts, strict=True)
        ]
        counts = count_tokens(tokenizer, prompts, special=True)
        over = max(counts) - length
        if over <= 0:
            break
        while over > 0 and used:
            used -= 1
            over -= filler[used][1]
    if min(cut for cut, _ in cuts) < 0:
        return "no place between two sentences of the filler"
    short = [count < LEAST_FILLED * length for count in counts]
    if any(short) and not (exhausted and used == len(filler)):
        return "no filling of the wanted length"
    return [
        TaskRow(
            task, prompt, answer, count, length, seed, before,
            {"question": question, "answer": place, "source": index}, few,
        )
        for (question, place), prompt, count, (_, before), few in zip(
            CONDITIONS, prompts, counts, cuts, short, strict=True
        )
    ]  # fmt: skip


def _filler(
    source: Source, old: str | None, index: int, library: _Library, tokenizer: Tokenizer, budget: int
) -> tuple[list[tuple[str, int]], bool]:
    """Sentences without the answer that fill about `budget` tokens, with theirs; True when there were no more."""
    lowered, gone = source.answer.strip().lower(), None if old is None else whole_number(old).search
    found, total = [], 0
    for sentence, low, tokens in _candidates(source, old, index, library, tokenizer):
        if lowered in low or (gone is not None and old in sentence and gone(sentence)):  # type: ignore[operator]
            continue
        if total + tokens <= budget:
            found.append((sentence, tokens))
            total += tokens
        if total >= ENOUGH * budget:
            return found, False
    return found, True


def _candidates(
    source: Source, old: str | None, index: int, library: _Library, tokenizer: Tokenizer
) -> Iterator[tuple[str, str, int]]:
    """The document's sentences in order, then those of the documents after it, around to the one before it."""
    if old is None:
        yield from library.of_document(index)
    else:
        counts = count_tokens(tokenizer, [f" {sentence}" for sentence in source.sentences])
        yield from zip(source.sentences, (s.lower() for s in source.sentences), counts, strict=True)
    seen = {library.documents[index]}  # several questions may share a document
    for step in range(1, len(library.documents)):
        other = (index + step) % len(library.documents)
        if library.documents[other] not in seen:
            seen.add(library.documents[other])
            yield from library.of_document(other)


def _cut(sums: list[int], share: float, place: str) -> tuple[int, float]:
    """Where to cut filler of running token sums so that the share before is nearest to `share`, and that share.

    The cut is -1 where none lies inside the place.
    """
    low, high = PLACES[place]
    shares = [s / (sums[-1] or 1) for s in sums]
    inside = [(abs(x - share), i) for i, x in enumerate(shares) if low <= x < high or x == high == 1]
    cut = min(inside)[1] if inside else -1
    return cut, shares[cut]


def _prompt(
    source: Source, before: Sequence[str], after: Sequence[str], evidence: str, question: str, template: Template
) -> str:
    text, asked = " ".join([*before, evidence, *after]), f"Question: {source.question.strip()}"
    parts = [INSTRUCTION, asked, text] if question == "start" else [INSTRUCTION, text, asked]
    return template("\n\n".join(parts) + "\nAnswer:" if question == "end" else "\n\n".join(parts) + "\n\nAnswer:")


def _refuse_blank(answer: str) -> None:
    if not answer.strip():
        raise InputError(f"answer is {answer!r}; a blank reference would be found in every text. Remove the row")
