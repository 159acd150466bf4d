"""lm-eval's ``samples_TASK_TIME.jsonl`` (lm-evaluation-harness, written by 0.4.13 in the tests).

A row is one document under one filter, with all its samples: the rows of a second filter hold the same responses again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.joined_rows import JoinedRows
from lengthwise.logs.readers.log_format import ROW_FORMS, LogFormat, Reading, responses
from lengthwise.logs.readers.log_row import Items, LogRow, Place, Row, UnusableError
from lengthwise.logs.readers.openings import Opening
from lengthwise.logs.readers.row_values import asked_in, at, clean, list_at, verdict_of

OWN = (
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash",
)  # fmt: skip
"""Columns that are no metric."""
TASK = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d\d-\d\dT[\d.:-]+")
ASKED = ("problem", "question", "prompt", "input", "query")


def _fits(opening: Opening) -> bool:
    return opening.form in ROW_FORMS and any(row.keys() >= {"doc_id", "resps", "arguments"} for row in opening.first)


def _read(openings: Sequence[Opening], fields: Fields) -> Reading:
    """Go through the files once for the verdicts of all filters, then say what there is."""
    verdicts = JoinedRows()
    most = 1
    for opening in openings:
        for _, row in opening.rows():
            if not isinstance(row, Defect):
                most = max(most, len(_texts(row)))
                _keep(verdicts, opening, row)
    filters = len(verdicts.parts())
    says = (
        f"{filters} {'filter' if filters == 1 else 'filters'}",
        f"{most} {'sample' if most == 1 else 'samples'} a problem",
    )
    return Reading(says, lambda: _rows(openings, fields, verdicts))


def _keep(verdicts: JoinedRows, opening: Opening, row: Row) -> None:
    if not verdicts.add(_key(opening, row), str(row.get("filter")), _metrics(row)):
        raise InputError(
            f"{opening.name} has document {row.get('doc_id')} under the filter {row.get('filter')!r} a second time: "
            "these lm-eval samples are of two runs; name the files of one of them"
        )


def _rows(openings: Sequence[Opening], fields: Fields, verdicts: JoinedRows) -> Items:
    with JoinedRows() as seen:
        for opening in openings:
            for number, row in opening.rows():
                place = Place(opening.name, number)
                if isinstance(row, Defect):
                    yield place, row
                elif seen.add(key := _key(opening, row), "", None):
                    yield from ((place, one) for one in _of_document(opening, row, fields, verdicts.of(key)))


def _of_document(
    opening: Opening, row: Row, fields: Fields, by_filter: Mapping[str, object]
) -> Iterator[LogRow | Defect]:
    def read(row: Row, _: Fields) -> Iterator[LogRow]:
        texts = _texts(row)
        if not texts:
            kind = "a multiple-choice task has likelihoods" if row.get("resps") else "resps is empty"
            raise UnusableError("no generated text", f"{kind}; log a task of the type generate_until")
        task, asked = _task(opening), _asked(row)
        own = _own_verdicts(by_filter) if len(texts) == 1 else {}
        notes = ("a verdict of lm-eval's filters on all samples of a document together is not used",)
        for number, text in enumerate(texts):
            yield LogRow(
                response=clean(text),
                answer=row.get("target"),
                problem_id=_key(opening, row),
                problem=asked,
                sample=number,
                category=task,
                verdicts=own,
                notes=notes if len(texts) > 1 else (),
            )

    return responses(row, fields, read)


def _texts(row: Row) -> list[str]:
    """The samples; likelihoods are pairs of a number and a flag, and no texts."""
    texts: list[str] = []
    for request in list_at(row, "resps"):
        several = request if isinstance(request, list | tuple) else [request]
        texts += [one for one in several if isinstance(one, str)]
    return texts


def _task(opening: Opening) -> str | None:
    found = TASK.search(opening.source.path.name)
    return None if found is None else found["task"]


def _key(opening: Opening, row: Row) -> str:
    task = _task(opening)
    number = str(row.get("doc_id"))
    return number if task is None else f"{task}/{number}"


def _asked(row: Row) -> str | None:
    """The problem: the document's own text, without the examples that the prompt may begin with."""
    for name in ASKED:
        text = at(row, f"doc.{name}")
        if isinstance(text, str) and text.strip():
            return clean(text)
    return asked_in(at(row, "arguments.gen_args_0.arg_0") or at(row, "arguments.0.0"))


def _metrics(row: Row) -> dict[str, float]:
    named = [str(name) for name in list_at(row, "metrics")] or [name for name in row if name not in OWN]
    found = {name: verdict_of(row.get(name)) for name in named}
    return {name: value for name, value in found.items() if value is not None}


def _own_verdicts(by_filter: Mapping[str, object]) -> dict[str, float]:
    """Verdicts under lm-eval's own names, ``exact_match,strict-match``."""
    return {
        f"{metric},{name}": float(value)
        for name, metrics in by_filter.items()
        if isinstance(metrics, dict)
        for metric, value in metrics.items()
    }


FORMAT = LogFormat("lm-eval", "lm-eval samples", "doc_id, doc, target, arguments, resps and filter", _fits, _read)
