"""lighteval's ``details_TASK_TIME.parquet`` (``--save-details``; written by 0.13.0 in the tests).

Its columns are ``doc``, ``model_response`` and ``metric``; with ``__`` around them in the data sets on a hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_format import row_format
from lengthwise.logs.readers.log_row import LogRow, Row, UnusableError
from lengthwise.logs.readers.response_ends import End
from lengthwise.logs.readers.row_values import asked_in, at, label_of, list_at, mapping_at, text_of, verdicts_in

TOGETHER = "lighteval's metric is of all samples of a document together; it is not used"
CUT = "as many tokens as lighteval's generation_size: taken for cut"
PADDED = "lighteval's ids end in padding, which is not counted: the response ended by itself"
LONGEST_PIECE = 24


def _without_padding(ids: Sequence[object], text: str) -> int:
    """How many ids a response has, its EOS included.

    The transformers backend fills all responses of a batch up to the longest with one id, mostly the EOS's. A run of
    one id at the end is such padding, unless the text ends in as many equal pieces, too: a model that repeats itself.
    """
    run = 0
    while run < len(ids) and ids[-1 - run] == ids[-1]:
        run += 1
    if run < 2:
        return len(ids)
    repeats = any(text.endswith(text[-size:] * run) for size in range(1, LONGEST_PIECE) if size * run <= len(text))
    return len(ids) if repeats else len(ids) - run + 1


def _part(row: Row, name: str) -> Mapping[str, object]:
    return mapping_at(row, name) or mapping_at(row, f"__{name}__")


def _fits(row: Row) -> bool:
    return bool(_part(row, "doc")) and bool(_part(row, "model_response"))


def _read(row: Row, _: Fields) -> Iterator[LogRow]:
    doc, written = _part(row, "doc"), _part(row, "model_response")
    texts = list_at(written, "text")
    if not texts:
        raise UnusableError("no generated text", "a multiple-choice task has likelihoods only")
    task = str(at(doc, "task_name") or "").partition("|")[0] or None
    named = label_of(at(doc, "id"), "id")
    gold, several = _gold(doc)
    for place, text in enumerate(texts):
        ids, shown = list_at(written, f"output_tokens.{place}"), text_of(text, "text") or ""
        tokens = _without_padding(ids, shown) or None
        padded = tokens is not None and tokens < len(ids)
        cut = tokens is not None and not padded and tokens >= (_limit(doc) or tokens + 1)
        yield LogRow(
            response=shown,
            answer=gold,
            any_of=several,
            reasoning=text_of(at(written, f"reasonings.{place}"), "reasonings"),
            num_tokens=tokens,
            end=End.CUT if cut else End.FINISHED if padded else End.UNKNOWN,
            problem_id=None if named is None else "/".join(part for part in (task, named) if part),
            problem=asked_in(at(doc, "query")),
            sample=place,
            category=task,
            verdicts=verdicts_in(_part(row, "metric"), ()) if len(texts) == 1 else {},
            notes=tuple(note for note, holds in ((TOGETHER, len(texts) > 1), (CUT, cut), (PADDED, padded)) if holds),
        )


def _gold(doc: Mapping[str, object]) -> tuple[object, bool]:
    """The choices that are right; several are alternatives."""
    places = at(doc, "gold_index")
    several = places if isinstance(places, list) else [places]
    gold = [one for place in several if (one := at(doc, f"choices.{place}")) is not None]
    texts = [one.strip() if isinstance(one, str) else one for one in gold]
    return (texts[0] if len(texts) == 1 else texts or None), len(texts) > 1


def _limit(doc: Mapping[str, object]) -> int | None:
    size = at(doc, "generation_size")
    return size if isinstance(size, int) else None


FORMAT = row_format("lighteval", "lighteval details", "doc and model_response", _fits, _read)
