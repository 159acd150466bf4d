"""`lengthwise methods`: what can be given to `--method`."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer
from rich.text import Text

from lengthwise.cli._console import out, print_json

ANY_CAP = 4000  # the methods' parts want a number; their defaults are shown without it


def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """List the methods: name, what it does, paper, options with their defaults."""
    from lengthwise.methods import METHODS, build_method, options_of

    found: dict[str, dict[str, Any]] = {}
    for name in METHODS:
        method = build_method(name, cap=ANY_CAP)
        own = {key: value for key, value in options_of(name).items() if value is not inspect.Parameter.empty}
        found[name] = {"summary": method.summary, "paper": method.paper, "options": own}
    if as_json:
        print_json(found)
        return
    for name, facts in found.items():
        out.print(Text.assemble((name, "bold"), f"  {facts['summary']}"), soft_wrap=True)
        out.print(f"    {facts['paper']}", soft_wrap=True, markup=False)
        options = ", ".join(f"{key}={value}" for key, value in facts["options"].items())
        out.print(f"    --option: {options}", soft_wrap=True, markup=False)
