"""What every command of ours does beside its own work: plain help, finite numbers."""

from __future__ import annotations

import math
from typing import Any

from rich.markup import escape
from typer.core import TyperCommand

from lengthwise.errors import ConfigError


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

    def invoke(self, ctx: Any) -> Any:
        """Run it, unless a number is NaN or infinite: no flag of ours has a use for either."""
        for parameter in self.params:
            value = ctx.params.get(parameter.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{parameter.opts[0]} is {value}; give a finite number")
        return super().invoke(ctx)
