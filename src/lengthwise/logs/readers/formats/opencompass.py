"""OpenCompass's ``predictions/MODEL/DATASET.json`` (read in its source, open-compass/opencompass@a5acc4b).

An object with the keys "0", "1" and so on, no list; also the lines of its unfinished ``tmp_*.jsonl``.
"""

from __future__ import annotations

from collections.abc import Iterator

from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_format import row_format
from lengthwise.logs.readers.log_row import LogRow, Row, UnusableError
from lengthwise.logs.readers.row_values import at, clean, count_of, list_at, text_of

ROUNDS = "of several rounds of a talk the last is read"


def _fits(row: Row) -> bool:
    return row.keys() >= {"origin_prompt", "prediction"}


def _read(row: Row, _: Fields) -> Iterator[LogRow]:
    prediction, gold, asked = row.get("prediction"), row.get("gold"), row.get("origin_prompt")
    rounds = isinstance(asked, list) and bool(asked) and isinstance(asked[0], list)
    if rounds and isinstance(prediction, list):
        last = [at(one, "-1") for one in (prediction, gold, asked)]
        yield _response(last[0], last[1], last[2], None, at(row, "res_length.-1"), (ROUNDS,))
        return
    several = prediction if isinstance(prediction, list) else [prediction]
    if not several:
        raise UnusableError("no prediction", "the list is empty")
    for place, one in enumerate(several):
        tokens = at(row, f"res_length.{place}") if list_at(row, "res_length") else at(row, "res_length")
        yield _response(one, gold, asked, place if len(several) > 1 else None, tokens, ())


def _response(
    prediction: object, gold: object, asked: object, sample: int | None, tokens: object, notes: tuple[str, ...]
) -> LogRow:
    if isinstance(prediction, dict):
        prediction = prediction.get("prediction")
    text = text_of(prediction, "prediction")
    if text is None:
        raise UnusableError("no prediction", "it is null")
    return LogRow(
        response=text,
        answer=gold,
        any_of=isinstance(gold, list) and len(gold) > 1,
        num_tokens=count_of(tokens, "res_length"),
        problem=_asked(asked),
        sample=sample,
        notes=notes,
    )


def _asked(prompt: object) -> str | None:
    """The last turn of the human in a prompt, which is text or turns with a ``prompt`` each."""
    if isinstance(prompt, str):
        return clean(prompt)
    turns = prompt if isinstance(prompt, list) else []
    for turn in reversed(turns):
        text = at(turn, "prompt") if at(turn, "prompt") is not None else at(turn, "content")
        if str(at(turn, "role")).casefold() in ("human", "user") and isinstance(text, str):
            return clean(text)
    return None


FORMAT = row_format("opencompass", "OpenCompass predictions", "origin_prompt and prediction", _fits, _read)
