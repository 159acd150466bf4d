"""`lengthwise repair`: take the weights out that matter most on harmful rows (Antidote)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lengthwise.cli._console import err, out, print_json
from lengthwise.cli._progress import working
from lengthwise.cli._repair_tables import layer_table, sweep_table
from lengthwise.cli.merge import model_folder
from lengthwise.config.commands import RepairSettings
from lengthwise.errors import ConfigError
from lengthwise.threads import threads_for

if TYPE_CHECKING:
    from lengthwise.runs.repair_sweep import MeasuredRepair

Note = Callable[[str], None]


def repair(settings: RepairSettings) -> None:
    """Repair by a saved mask, or by scores, measured over fractions where there is a judge; show what went."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    if settings.mask is None and settings.choice.fraction == 0:
        raise ConfigError("fraction is 0, which takes nothing out; give a share above 0")
    with _noting() as note:
        found = _repaired(settings, note)
    if settings.json_:
        print_json(found.to_dict())
        return
    report, sweep = found.report, found.sweep
    if sweep is not None:
        from lengthwise.runs.repair_sweep import conclusion

        out.print(conclusion(sweep), soft_wrap=True, markup=False)
    out.print(layer_table(report))
    done = "set to zero" if report.mode == "zero" else "set back to the reference"
    out.print(
        f"{report.removed} of {report.entries} target weights {done}: {report.fraction:.2%} of them, "
        f"{report.share_of_model:.2%} of the model",
        soft_wrap=True,
    )
    if report.overlap is not None:
        out.print(f"overlap with the scored mask (Jaccard): {report.overlap:.3f}", soft_wrap=True)
    if sweep is not None:
        out.print(sweep_table(sweep))
        out.print(f"picture: {settings.out / 'antidote' / 'sweep.png'}", soft_wrap=True, markup=False)
    out.print(f"model: {settings.out}", soft_wrap=True, markup=False)


def _repaired(settings: RepairSettings, note: Note) -> MeasuredRepair:
    from lengthwise.repair.folder_repair import repair_folder
    from lengthwise.repair.saved_mask import apply_mask
    from lengthwise.runs.repair_sweep import MeasuredRepair, repair_and_measure

    if settings.mask is not None:
        return MeasuredRepair(apply_mask(settings, locate=model_folder, note=note))
    with threads_for(model_folder(settings.model), wanted=settings.runtime.threads):
        if settings.harm.judge is not None:
            return repair_and_measure(settings, locate=model_folder, note=note)
        return MeasuredRepair(repair_folder(settings, locate=model_folder, note=note))


@contextmanager
def _noting() -> Iterator[Note]:
    """Say what is being done, and how it goes where that takes long."""
    with working() as work:

        def note(text: str) -> None:
            work.phase(text, quiet=True)
            _say(text)

        yield note


def _say(text: str) -> None:
    err.print(text, soft_wrap=True, markup=False)
