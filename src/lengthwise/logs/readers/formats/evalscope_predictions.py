"""evalscope's ``predictions`` (the responses) and ``reviews`` (gold and scores), joined by ``index``.

Written by 1.14.1 in the tests. ``predictions/MODEL/SUBSET.jsonl`` has its reviews in ``reviews/MODEL/SUBSET.jsonl``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.logs.readers.chat_outputs import choices_in
from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.joined_rows import JoinedRows
from lengthwise.logs.readers.log_format import ROW_FORMS, LogFormat, Reading, responses
from lengthwise.logs.readers.log_row import Items, LogRow, Place, Row, UnusableError
from lengthwise.logs.readers.openings import Opening, open_log
from lengthwise.logs.readers.row_values import (
    asked_in,
    at,
    label_of,
    list_at,
    mapping_at,
    message_text,
    sample_of,
    text_of,
    verdict_of,
)
from lengthwise.logs.readers.sources import Source

PREDICTIONS, REVIEWS = "predictions", "reviews"
JOINED = ("target", "sample_score.score.value", "sample_score.group_id", "sample_score.generation_index")
"""What a review says of a prediction."""


def _is_prediction(row: Row) -> bool:
    return row.keys() >= {"index", "model_output"}


def _is_review(row: Row) -> bool:
    return row.keys() >= {"index", "sample_score"}


def _fits(opening: Opening) -> bool:
    return opening.form in ROW_FORMS and any(_is_prediction(row) or _is_review(row) for row in opening.first)


def _read(openings: Sequence[Opening], fields: Fields) -> Reading:
    predictions = [one for one in openings if any(_is_prediction(row) for row in one.first)]
    reviews = [one for one in openings if one not in predictions]
    if not predictions:
        return Reading(("reviews alone: no token counts",), lambda: _rows(reviews, fields, None))
    _check_models(predictions)
    reviews += _beside(predictions, {one.source.path.resolve() for one in reviews})
    kept = JoinedRows()
    for opening in reviews:
        for _, row in opening.rows():
            if not isinstance(row, Defect) and not kept.add(_key(opening, row), "", [at(row, path) for path in JOINED]):
                raise InputError(
                    f"{opening.name} has index {row.get('index')} a second time: these evalscope reviews are of two "
                    "runs; name the files of one of them"
                )
    says = f"joined with {len(reviews)} of reviews" if reviews else "no reviews beside it: no gold answers"
    return Reading((says,), lambda: _rows(predictions, fields, kept))


def _check_models(predictions: Sequence[Opening]) -> None:
    of_subset: dict[str, Opening] = {}
    for opening in predictions:
        first = of_subset.setdefault(opening.source.path.name, opening)
        if at(first.first[0], "model") != at(opening.first[0], "model"):
            raise InputError(
                f"{first.name} and {opening.name} are evalscope predictions of two models; name the "
                "files of one of them"
            )


def _beside(predictions: Sequence[Opening], there: set[Path]) -> Iterator[Opening]:
    """Reviews that lie where evalscope puts them, and that were not named."""
    for opening in predictions:
        path = opening.source.path.resolve()
        parts = [REVIEWS if part == PREDICTIONS else part for part in path.parts]
        reviews = Path(*parts)
        if reviews != path and reviews not in there and reviews.is_file():
            yield open_log(Source(reviews, str(reviews)))


def _key(opening: Opening, row: Row) -> str:
    return f"{_subset(opening)}/{row.get('index')}"


def _subset(opening: Opening) -> str:
    return opening.source.path.name.partition(".jsonl")[0]


def _rows(openings: Sequence[Opening], fields: Fields, reviews: JoinedRows | None) -> Items:
    with JoinedRows() as seen:
        for opening in openings:
            for number, row in opening.rows():
                place = Place(opening.name, number)
                if isinstance(row, Defect):
                    yield place, row
                    continue
                if not seen.add(_key(opening, row), "", None):
                    raise InputError(
                        f"{place}: index {row.get('index')} a second time: these evalscope predictions are of two "
                        "runs; name the files of one of them"
                    )
                read = partial(_sample, opening, reviews)
                yield from ((place, item) for item in responses(row, fields, read))


def _sample(opening: Opening, reviews: JoinedRows | None, row: Row, _: Fields) -> Iterator[LogRow]:
    review = [at(row, path) for path in JOINED] if reviews is None else _review(reviews, _key(opening, row))
    target, scores, group, generation = review
    several = isinstance(target, list) and len(target) > 1
    problem = label_of(row.get("index") if group is None else group, "index")
    known = LogRow(
        response="",
        answer=target[0] if isinstance(target, list) and len(target) == 1 else target,
        any_of=several,
        problem=asked_in(row.get("messages")),
        # An index is a response's; without a review only the text tells which problem it answers.
        problem_id=None if group is None and row.get("messages") else f"{_subset(opening)}/{problem}",
        sample=sample_of(generation, "generation_index"),
        category=_subset(opening),
        verdicts={name: value for name, one in mapping_at({"": scores}, "").items()
                  if (value := verdict_of(one)) is not None},
    )  # fmt: skip
    yield from _predicted(row, known) if _is_prediction(row) else _reviewed(row, known)


def _review(reviews: JoinedRows, key: str) -> list[object]:
    found = reviews.of(key).get("")
    return found if isinstance(found, list) else [None] * len(JOINED)


def _predicted(row: Row, known: LogRow) -> Iterator[LogRow]:
    if (error := at(row, "model_output.error")) is not None:
        raise UnusableError("a request that failed", str(error)[:80])
    for choice in choices_in(mapping_at(row, "model_output")):
        sample = known.sample if choice.place == 0 else f"{known.sample}.{choice.place}"
        yield replace(
            known, response=choice.text, reasoning=choice.thinking, num_tokens=choice.num_tokens, end=choice.end,
            finish_reason=choice.reason, reasoning_tokens=choice.reasoning_tokens, shared_tokens=choice.shared,
            sample=sample, notes=choice.notes,
        )  # fmt: skip


def _reviewed(row: Row, known: LogRow) -> Iterator[LogRow]:
    written = [one for one in list_at(row, "messages") if at(one, "role") == "assistant"]
    if written:
        text, thinking = message_text(at(written[-1], "content"))
        yield replace(known, response=text, reasoning=thinking)
        return
    text_alone = text_of(at(row, "sample_score.score.prediction"), "prediction")
    if text_alone is None:
        raise UnusableError("no prediction in the review", f"index {row.get('index')}")
    yield replace(known, response=text_alone)


FORMAT = LogFormat(
    "evalscope", "evalscope predictions", "index and model_output (or sample_score, of a review)", _fits, _read
)
