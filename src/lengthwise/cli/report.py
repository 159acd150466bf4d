"""`lengthwise report`: rebuild a run's report from its files, or compare several runs."""

from __future__ import annotations

from lengthwise.cli._console import out, print_json
from lengthwise.config.commands import ReportSettings
from lengthwise.errors import InputError


def report(settings: ReportSettings) -> None:
    """Build the page, and say where it is."""
    from lengthwise.reporting.run_report import build_report
    from lengthwise.runs.run_folder import CONFIG

    for run in settings.runs:
        if not (run / CONFIG).is_file():
            raise InputError(f"RUN is {str(run)!r}: no {CONFIG} in it; give a folder that `lengthwise shorten` made")
    page = build_report(settings.runs, settings.out)
    if settings.json_:
        print_json({"page": str(page), "picture": str(page.with_suffix(".png"))})
        return
    out.print(str(page), soft_wrap=True)
