"""Flags that were called otherwise: one table for the errors that name the new one, and for the changelog."""

from __future__ import annotations

from dataclasses import dataclass

ARGUMENT = "the argument "


@dataclass(frozen=True)
class Renamed:
    """An old flag of some commands, and what is written now: a flag, a flag with its value, or an argument."""

    old: str
    text: str
    commands: tuple[str, ...]

    def as_key(self) -> str:
        """The same for somebody who writes a file: ``think: no`` for ``--think no``."""
        if self.text.startswith(ARGUMENT):
            return self.text.removeprefix(ARGUMENT).rstrip(".").lower()
        flag, _, value = self.text.partition(" ")
        key = flag.removeprefix("--").replace("-", "_")
        return f"{key}: {value}" if value else key


_ASKING = ("shorten", "compare", "evaluate", "export", "grade", "repair")
RENAMES = (
    Renamed("--micro-tokens", "--micro-batch-tokens", ("shorten", "compare")),
    Renamed("--micro-rows", "--micro-batch-rows", ("export",)),
    Renamed("--batch-rows", "--micro-batch-rows", ("repair",)),
    Renamed("--batch", "--batch-rows", ("extend",)),
    Renamed("--micro-batch", "--micro-batch-rows", ("extend",)),
    Renamed("--eval-problems", "--eval-limit", ("shorten",)),
    Renamed("--validation-problems", "--validation-limit", ("compare",)),
    Renamed("--test-problems", "--test-limit", ("compare",)),
    Renamed("--problems", "--limit", ("demo",)),
    Renamed("--rows", "--limit", ("evaluate-context",)),
    Renamed("--measure-rows", "--limit", ("repair",)),
    Renamed("--max-tokens", "--cap", ("generate",)),
    Renamed("--chunk", "--prefill-chunk", ("generate",)),
    Renamed("--rule", "--lambda-rule", ("generate", "evaluate")),
    Renamed("--rule", "--rounding", ("repair",)),
    Renamed("--task-data", "--data", ("repair",)),
    Renamed("--task-template", "--prompt-template", ("repair",)),
    Renamed("--answers", "--several", tuple(name for name in _ASKING if name != "grade")),
    Renamed("--no-think", "--think no", tuple(name for name in _ASKING if name != "evaluate")),
    Renamed("--model", f"{ARGUMENT}MODEL", ("evaluate", "evaluate-context", "export")),
    Renamed("--weights", "--score-weights", ("compare-records",)),
)


def renamed(command: str, flag: str) -> Renamed | None:
    """What a flag of a command is called now; None where it was never one."""
    return next((row for row in RENAMES if row.old == flag and command in row.commands), None)


def rename_table() -> str:
    """The table in Markdown: old flag, what to write now, commands."""
    rows = [f"| `{row.old}` | {_shown(row.text)} | {', '.join(row.commands)} |" for row in RENAMES]
    return "\n".join(["| was | is now | in |", "|---|---|---|", *rows]) + "\n"


def _shown(text: str) -> str:
    return f"{ARGUMENT}`{text.removeprefix(ARGUMENT)}`" if text.startswith(ARGUMENT) else f"`{text}`"
