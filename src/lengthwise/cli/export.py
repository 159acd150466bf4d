"""`lengthwise export`: the same run for TRL or verl, on more than one device."""

from __future__ import annotations

from lengthwise.cli._console import complain, out, print_json
from lengthwise.config.commands import ExportSettings


def export(settings: ExportSettings) -> None:
    """Write the run for the engine, and say how it is started."""
    from lengthwise.adapters.export_plan import plan

    resolved, folder = plan(settings), settings.out
    if (reason := resolved.problems.contract.think_reason) is not None:
        complain(f"thinking: {reason}", style="dim")
    if settings.engine == "trl":
        from lengthwise.adapters.export_trl import write_trl

        files = write_trl(resolved)
        command, checked = f"cd {folder} && accelerate launch --config_file accelerate.yaml train.py", None
    else:
        from lengthwise.adapters.export_verl import validated, write_verl

        files = write_verl(resolved)
        command, checked = f"bash {folder}/launch.sh", validated(folder)
    if settings.json_:
        print_json({"files": [str(path) for path in files], "command": command, "validated": checked})
        return
    lines = [f"wrote {path}" for path in files] + ([] if checked is None else [f"checked: {checked}"])
    for line in [*lines, f"run: {command}"]:
        out.print(line, soft_wrap=True)
