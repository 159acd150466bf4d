"""inspect's ``.eval`` (a zip archive) and ``.json`` logs (inspect-ai; written by 0.3.285 in the tests).

Since 2026 the archive's entries are packed by zstandard (zip method 93), which Python's own zipfile does not read
before 3.14; the extra ``zstd`` does.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from lengthwise.data import LINE_LIMIT, UNREADABLE, Defect, whole_number
from lengthwise.errors import InputError
from lengthwise.logs.readers.chat_outputs import Choice, choices_in
from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.json_values import members
from lengthwise.logs.readers.log_format import LogFormat, Reading, responses
from lengthwise.logs.readers.log_row import Items, LogRow, Place, Row, UnusableError
from lengthwise.logs.readers.openings import Form, Opening, zip_archive
from lengthwise.logs.readers.row_values import (
    asked_in,
    at,
    clean,
    label_of,
    list_at,
    mapping_at,
    sample_of,
    text_of,
    verdict_of,
)  # fmt: skip
from lengthwise.logs.readers.sources import DamagedError, unzstd

ATTACHED = "attachment://"
ZSTD_METHOD = 93
_LOCAL_HEADER = 30  # bytes of an entry's own header, before its name


def _fits(opening: Opening) -> bool:
    if opening.form is Form.ZIP:
        return any(name.startswith("samples/") for name in opening.keys) or "header.json" in opening.keys
    inside = {"eval", "plan"} <= set(opening.keys) or any({"eval", "plan"} <= row.keys() for row in opening.first)
    return opening.form in (Form.OBJECT, Form.LINES) and inside


def _read(openings: Sequence[Opening], fields: Fields) -> Reading:
    _check_runs(openings)
    epochs, problems = 0, set()
    for opening in openings:
        for name in _names(opening):
            problem, _, epoch = name.removesuffix(".json").rpartition("_epoch_")
            problems.add(problem)
            epochs = max(epochs, whole_number(epoch) or 0)
    says = (f"{epochs} {'epoch' if epochs == 1 else 'epochs'}", f"{len(problems)} problems") if epochs else ()
    return Reading(says, lambda: _rows(openings, fields))


def _check_runs(openings: Sequence[Opening]) -> None:
    """Refuse two logs of one task: they are of two models, two settings, or the same once more."""
    of_task: dict[str, str] = {}
    for opening in openings if len(openings) > 1 else ():
        task = next((head for head in _samples(opening) if isinstance(head, str)), "")
        if task in of_task:
            raise InputError(
                f"{of_task[task]} and {opening.name} are inspect logs of two runs of the task {task!r}; name the files "
                "of one run"
            )
        of_task[task] = opening.name


def _samples(opening: Opening) -> Iterator[str | Row | Defect]:
    """The task's name, then the samples."""
    return _zipped(opening) if opening.form is Form.ZIP else _listed(opening)


def _rows(openings: Sequence[Opening], fields: Fields) -> Items:
    for opening in openings:
        task: str | None = None
        for number, sample in enumerate(_samples(opening)):
            if isinstance(sample, str):  # the head of the log, before its samples
                task = sample
                continue
            place = Place(opening.name, number)
            if isinstance(sample, Defect):
                yield place, sample
            else:
                yield from ((place, item) for item in _of_sample(sample, task, fields))


def _names(opening: Opening) -> list[str]:
    return [name for name in opening.keys if name.startswith("samples/") and name.endswith(".json")]


def _zipped(opening: Opening) -> Iterator[str | Row | Defect]:
    """The task's name, then the samples, one entry of the archive at a time."""
    with zip_archive(opening.source) as archive, opening.source.opened() as raw:
        head = next((one for one in ("header.json", "_journal/start.json") if one in opening.keys), None)
        start = {} if head is None else _entry(archive, raw, head, opening.name)
        yield _task_of(start)
        for name in _names(opening):
            yield _entry(archive, raw, name, opening.name)


def _entry(archive: zipfile.ZipFile, raw: BinaryIO, name: str, log: str) -> Row | Defect:
    info = archive.getinfo(name)
    if info.file_size > LINE_LIMIT:
        return Defect(f"a sample of over {LINE_LIMIT >> 20} MiB", name)
    try:
        data = _unpacked(archive, raw, info, log)
        found = json.loads(data)
    except (DamagedError, zipfile.BadZipFile, EOFError, *UNREADABLE) as error:
        return Defect("damaged sample", f"{name}: {error}")
    return found if isinstance(found, dict) else Defect("not an object", name)


def _unpacked(archive: zipfile.ZipFile, raw: BinaryIO, info: zipfile.ZipInfo, log: str) -> bytes:
    if info.compress_type != ZSTD_METHOD:
        return archive.read(info)
    raw.seek(info.header_offset)
    header = raw.read(_LOCAL_HEADER)
    skipped = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")  # name, extra field
    raw.seek(skipped, 1)
    return unzstd(raw.read(info.compress_size), log, LINE_LIMIT)


def _listed(opening: Opening) -> Iterator[str | Row | Defect]:
    """The same of a ``.json`` log, which has its samples in a list."""
    try:
        with opening.source.opened() as file:
            for key, value in members(file, ("samples",)):
                if key == "eval":
                    yield _task_of({"eval": value})
                elif key == "samples" and value is not None:
                    yield value if isinstance(value, Mapping) else Defect("not an object", str(value)[:40])
    except DamagedError as error:
        yield Defect("damaged inspect log", str(error))


def _task_of(start: Row | Defect) -> str:
    return "" if isinstance(start, Defect) else str(at(start, "eval.task") or "")


def _of_sample(sample: Row, task: str | None, fields: Fields) -> Iterator[LogRow | Defect]:
    def read(sample: Row, _: Fields) -> Iterator[LogRow]:
        if (error := at(sample, "error")) is not None:
            raise UnusableError("the sample failed", str(at(error, "message") or error)[:80])
        output = _whole(at(sample, "output"), mapping_at(sample, "attachments"))
        if not isinstance(output, Mapping) or not list_at(output, "choices"):
            raise UnusableError("the sample has no output", f"its id is {at(sample, 'id')!r}")
        yield from (_response(sample, choice, task) for choice in choices_in(output))

    return responses(sample, fields, read)


def _response(sample: Row, choice: Choice, task: str | None) -> LogRow:
    target = at(sample, "target")
    several = isinstance(target, list) and len(target) > 1
    epoch = sample_of(at(sample, "epoch"), "epoch")
    return LogRow(
        response=choice.text,
        answer=target[0] if isinstance(target, list) and len(target) == 1 else target,
        any_of=several,
        reasoning=choice.thinking,
        num_tokens=choice.num_tokens,
        reasoning_tokens=choice.reasoning_tokens,
        shared_tokens=choice.shared,
        end=choice.end,
        finish_reason=choice.reason,
        problem_id="/".join(part for part in (task, label_of(at(sample, "id"), "id")) if part) or None,
        problem=asked_in(_whole(at(sample, "input"), mapping_at(sample, "attachments"))),
        sample=epoch if choice.place == 0 else f"{epoch}.{choice.place}",
        category=task or None,
        verdicts=_verdicts(sample) if choice.place == 0 else {},  # scorers read the first
        notes=(*choice.notes, *_notes(sample)),
    )


def _whole(value: object, attachments: Mapping[str, object]) -> object:
    """A value with the texts that inspect keeps apart put back: ``attachment://HASH`` stands for a long one."""
    if isinstance(value, str) and value.startswith(ATTACHED):
        return clean(text_of(attachments.get(value.removeprefix(ATTACHED)), "an attachment") or value)
    if isinstance(value, list):
        return [_whole(one, attachments) for one in value]
    if isinstance(value, Mapping):
        return {name: _whole(one, attachments) for name, one in value.items()}
    return value


def _verdicts(sample: Row) -> dict[str, float]:
    """Each scorer's verdict; a scorer with several values has them under ``scorer.value``."""
    found: dict[str, float] = {}
    for scorer, score in mapping_at(sample, "scores").items():
        value = at(score, "value")
        named = (
            {f"{scorer}.{name}": one for name, one in value.items()} if isinstance(value, Mapping) else {scorer: value}
        )
        found |= {name: number for name, one in named.items() if (number := verdict_of(one)) is not None}
    return found


def _notes(sample: Row) -> Iterator[str]:
    parts = list_at(sample, "output.choices.0.message.content")
    if any(at(part, "redacted") is True for part in parts):
        yield "the thinking is hidden; its summary is read"
    calls = sum(at(one, "role") == "assistant" for one in list_at(sample, "messages"))
    if calls > 1:
        yield "the last of several answers of the model is read, with its tokens alone"


FORMAT = LogFormat("inspect", "an inspect log", "samples with output.choices", _fits, _read)
