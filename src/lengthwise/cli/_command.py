"""What every command of ours does beside its own work: plain help, finite numbers."""

from __future__ import annotations

import math
from typing import Any

from rich.markup import escape
from typer.core import TyperCommand

from lengthwise.errors import ConfigError

THINK_MODES = (["auto"], ["yes"], ["no"], ["marks"])


class Command(TyperCommand):
    """A command whose help is shown letter by letter as it is written, and whose numbers are finite."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Help is read as Rich's markup, which would eat [brackets]; as Markdown, it would eat <think>.
        self.help = None if self.help is None else escape(self.help)
        for parameter in self.params:
            shown = getattr(parameter, "help", None)
            if shown is not None:
                parameter.help = escape(shown)  # type: ignore[attr-defined]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; ``--think`` by itself is ``--think yes``, whatever follows it."""
        spelled = list(args)
        for place in reversed(range(len(args))):
            if args[place] == "--think" and args[place + 1 : place + 2] not in THINK_MODES:
                spelled.insert(place + 1, "yes")
        return super().parse_args(ctx, spelled)

    def invoke(self, ctx: Any) -> Any:
        """Run it, unless a number is NaN or infinite: no flag of ours has a use for either."""
        for parameter in self.params:
            value = ctx.params.get(parameter.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{parameter.opts[0]} is {value}; give a finite number")
        return super().invoke(ctx)
