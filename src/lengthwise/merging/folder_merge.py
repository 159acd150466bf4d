"""Merging Hugging Face folders from shard to shard into a folder that is whole or absent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from lengthwise.config.commands import MergeSettings
from lengthwise.config.files import BESIDE_A_MODEL, run_config
from lengthwise.config.groups.weights import MergedTensors
from lengthwise.errors import InputError
from lengthwise.files import atomic_write_json
from lengthwise.folder_lock import writes
from lengthwise.merging.blockwise_merge import BLOCK, Change, measure, merge
from lengthwise.merging.change_summary import ChangeSummary, ModelChange, by_layer, summary_of
from lengthwise.merging.merge_methods import Merge
from lengthwise.merging.merge_plan import Plan, preflight
from lengthwise.merging.report import Differences, MergeReport
from lengthwise.safetensors_io.model_card import copy_settings, write_card
from lengthwise.safetensors_io.reader import CHECKSUMS
from lengthwise.safetensors_io.tensor_sources import Models
from lengthwise.safetensors_io.writer import ShardWriter, write_whole_folder

REPORT = "merge.json"

Listener = Callable[[int, int], None]
"""Gets the bytes that are written and those that will be."""


@writes("settings.out")
def merge_folders(
    settings: MergeSettings,
    *,
    plan: Plan | None = None,
    elements: int = BLOCK,
    shard_bytes: int | None = None,
    listener: Listener | None = None,
) -> MergeReport:
    """Merge folders tensor by tensor; the output loads with transformers and carries a card and a report.

    Args:
        settings: what to merge into what.
        plan: their own preflight, where it was done already.
        elements: most entries of the models held at a time; memory depends on it alone.
        shard_bytes: most bytes of a file, in place of the settings' megabytes.
        listener: told after every tensor how far the merge is.

    Returns:
        The report, also in the folder's ``merge.json``: method, options, models, statistics per layer and tensor
        (`ChangeSummary`), notes. Paths in it are folder names. The settings, with the paths as they were given,
        stand in ``lengthwise.json``.

    Raises:
        InputError: what the preflight found, all of it; or NaN, infinity, unlike integers or an overflow in data.
        ConfigError: an option out of range.
        CheckpointError: a damaged input, or a full disk. Whatever is raised, the output is as it was before.
    """
    plan = plan or preflight(settings)
    if plan.errors:
        raise InputError("; ".join(plan.errors))
    made: list[MergeReport] = []
    most = settings.tensors.shard_mb * 1_000_000 if shard_bytes is None else shard_bytes
    base, *others = plan.sources

    def fill(folder: Path) -> None:
        models = Models(base, others, elements, plan.chosen)
        changes, written = {}, 0
        with ShardWriter(folder, plan.outputs, shard_bytes=most) as writer:
            for name, change in merge(plan.method, models, writer.outputs, writer.write):
                written += plan.outputs[name].nbytes
                if change is not None:
                    changes[name] = change
                if listener is not None:
                    listener(written, plan.nbytes)
            writer.close()
        atomic_write_json(folder / CHECKSUMS, writer.sums)
        made.append(_report(settings, plan, changes))
        copy_settings(settings.tensors.files_from or base.path, folder, plan.config_changes)
        _write_card(folder, plan.method, made[0])
        atomic_write_json(folder / REPORT, made[0].to_dict())
        atomic_write_json(folder / BESIDE_A_MODEL, run_config(settings))
        writer.publish()

    write_whole_folder(settings.out, fill, needed=plan.nbytes)
    return made[0]


def differences(plan: Plan, *, elements: int = BLOCK) -> Differences:
    """What the models of a merge change, per layer and in all, read once and merged nowhere; names as in the report.

    Raises:
        InputError: what the preflight found, or NaN or infinity in a model.
    """
    if plan.errors:
        raise InputError("; ".join(plan.errors))
    base, *others = plan.sources
    changes = dict(measure(Models(base, others, elements, plan.chosen)))
    labels = [folder.resolve().name for folder in plan.folders]
    return Differences(
        base=labels[0],
        models=tuple(labels[1:]),
        total=summary_of(_total(changes, len(others))),
        layers=_summaries(by_layer(changes)),
    )


def _summaries(changes: Mapping[str, Change]) -> dict[str, ChangeSummary]:
    return {name: summary_of(change) for name, change in changes.items()}


def _total(changes: dict[str, Change], models: int) -> Change:
    total = Change.none(models)
    for change in changes.values():
        total.add(change)
    return total


def _report(settings: MergeSettings, plan: Plan, changes: dict[str, Change]) -> MergeReport:
    labels = [folder.resolve().name for folder in plan.folders]
    total = _total(changes, len(labels) - 1)
    warned = [_without_paths(text, plan.folders) for text in plan.warnings]
    return MergeReport(
        lengthwise=metadata.version("lengthwise"),
        method=plan.method.name,
        options=_options(plan.method, settings.tensors),
        base=labels[0],
        models=tuple(labels[1:]),
        total=summary_of(total),
        layers=_summaries(by_layer(changes)),
        tensors=_summaries(changes),
        notes=(*warned, *_notes(total, changes, labels[1:])),
    )


def _without_paths(text: str, folders: Sequence[Path]) -> str:
    """A message with the folders' names only: the report travels with the model."""
    for folder in sorted(folders, key=lambda path: -len(str(path))):
        text = text.replace(str(folder), folder.resolve().name)
    return text


def _options(method: Merge, asked: MergedTensors) -> dict[str, object]:
    shared = {
        "include": asked.include, "exclude": asked.exclude, "allow_mixed_dtype": asked.mixed_dtype,
        "out_dtype": asked.out_dtype, "head": asked.head,
    }  # fmt: skip
    return {**dataclasses.asdict(method), **{name: value for name, value in shared.items() if value}}


def _notes(total: Change, changes: dict[str, Change], models: list[str]) -> list[str]:
    """What a reader should know about the numbers."""
    notes = []
    same = [name for name, square in zip(models, total.products.diagonal(), strict=True) if square == 0]
    if same and len(same) == len(models):
        notes.append("no difference: every model equals the base in all merged tensors")
    else:
        notes += [f"no difference between {name} and the base in all merged tensors" for name in same]
    untouched = [name for name, change in changes.items() if change.size and not change.kept.any()]
    if untouched:
        notes.append(f"nothing was kept in {len(untouched)} of {len(changes)} tensors, first {untouched[0]}")
    if total.moved and total.lost > total.moved / 2:
        notes.append(f"rounding to the output's format undoes {total.lost / total.moved:.0%} of the changed entries")
    return notes


def _write_card(folder: Path, method: Merge, report: MergeReport) -> None:
    rows = zip(report.models, report.total.models, strict=True)
    write_card(
        folder,
        title=f"Merged by {method.name}",
        tag="merge",
        what=[
            f"Made by `lengthwise merge --method {method.name}` (lengthwise {report.lengthwise}) from the weights "
            "alone; nothing was trained or evaluated here.",
            "",
            f"Formula: `{method.formula}`. Source: {method.source}.",
        ],
        models=[
            f"| {'base' if method.needs_base else 'first'} | {report.base} |",
            *(f"| model {number} | {name}{_size(row)} |" for number, (name, row) in enumerate(rows, start=1)),
        ],
        options=report.options,
        notes=report.notes,
    )


def _size(row: ModelChange) -> str:
    return "" if row.relative is None else f" (its change has {row.relative:.3g} of the base's norm)"
