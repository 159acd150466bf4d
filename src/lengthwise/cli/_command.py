"""What every command of ours does beside its own work: plain help, and numbers of a sound size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from typer.core import TyperCommand

from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from typer._click.core import Context

THINK_MODES = (["auto"], ["yes"], ["no"], ["marks"])
LARGEST, LARGEST_SEED = 10**12, 2**63 - 1
"""No count, length or factor is larger; torch takes seeds of 64 bits."""


class Command(TyperCommand):
    """A command whose help is shown letter by letter as it is written, and whose numbers are of a sound size."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Help is read as Rich's markup, which would eat [brackets]; as Markdown, it would eat <think>.
        self.help = None if self.help is None else escape(self.help)
        for parameter in self.params:
            shown = getattr(parameter, "help", None)
            if shown is not None:
                parameter.help = escape(shown)  # type: ignore[attr-defined]

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the arguments; ``--think`` by itself is ``--think yes``, whatever follows it."""
        spelled = list(args)
        for place in reversed(range(len(args))):
            if args[place] == "--think" and args[place + 1 : place + 2] not in THINK_MODES:
                spelled.insert(place + 1, "yes")
        return super().parse_args(ctx, spelled)

    def invoke(self, ctx: Context) -> object:
        """Run it, unless a number is beyond any use."""
        for parameter in self.params:
            _check_size(parameter.opts[0], ctx.params.get(parameter.name))
        return super().invoke(ctx)


def _check_size(flag: str, value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{flag} is {value}; give a finite number")
    most = LARGEST_SEED if flag == "--seed" else LARGEST
    if isinstance(value, (int, float)) and abs(value) > most:
        raise ConfigError(f"{flag} is {value}, beyond any use; give a number up to {most:,}")
