"""`lengthwise methods`: what can be given to `--method`, and all that a method says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lengthwise.cli._console import out, print_json
from lengthwise.config.commands import MethodsSettings
from lengthwise.config.values import as_flag

if TYPE_CHECKING:
    from lengthwise.methods.declaration import Option
    from lengthwise.methods.description import Description


def methods(settings: MethodsSettings) -> None:
    """List the methods, or say all of one."""
    if settings.name is None:
        _list(as_json=settings.json_)
        return
    found = _described(settings.name)
    if settings.json_:
        print_json(found.to_dict())
        return
    _show(found)


def _described(name: str) -> Description:
    from lengthwise.adapters.method_support import ENGINES, how
    from lengthwise.methods import build_method
    from lengthwise.methods.description import ANY_CAP, describe

    made = build_method(name, cap=ANY_CAP)
    return describe(name, {engine: how(engine, made) for engine in ENGINES})


def _list(*, as_json: bool) -> None:
    from lengthwise.methods import METHODS
    from lengthwise.methods.description import describe

    found = [describe(name) for name in METHODS]
    if as_json:
        print_json(
            {one.name: {"summary": one.summary, "paper": one.paper, "pays_wrong_by_length": one.pays_wrong,
                        "options": {name: option.default for name, option in one.options.items()}} for one in found}
        )  # fmt: skip
        return
    for one in found:
        out.print(Text.assemble((one.name, "bold"), f"  {one.summary}"), soft_wrap=True)
        out.print(f"    {one.paper}", soft_wrap=True, markup=False)
        out.print(f"    pays wrong answers by length: {_wrong(one)}", soft_wrap=True, markup=False)
        options = ", ".join(f"{name}={_default(option)}" for name, option in one.options.items())
        out.print(f"    --option: {options}", soft_wrap=True, markup=False)
    out.print("`lengthwise methods NAME` says all of one.", soft_wrap=True, markup=False)


def _default(option: Option) -> str:
    """A default as somebody would write it, or in words where it follows from something else."""
    if option.default_text:
        return f"({option.default_text})"
    if option.default == "" or "\n" in str(option.default):
        return repr(option.default)
    return as_flag(option.default).lower() if option.default in (None, True, False) else as_flag(option.default)


def _show(found: Description) -> None:
    out.print(Text.assemble((found.name, "bold"), f"  {found.summary}"), soft_wrap=True)
    out.print(found.paper, soft_wrap=True, markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, option in found.options.items():
        table.add_row(Text(f"{name}={_default(option)}"), Text(f"{option.help} ({option.wanted})".strip()))
    if found.options:
        out.print(Text("\n--option", "bold"))
        out.print(table)
    out.print()
    for what, said in _facts(found):
        out.print(Text.assemble((what, "bold"), f"  {said}"), soft_wrap=True)


def _facts(found: Description) -> list[tuple[str, str]]:
    knob = found.knob
    swept = "none; name an option and its values with --sweep"
    if knob is not None:
        fixed = "".join(f", with {name}={value}" for name, value in knob.fixed.items())
        swept = f"{knob.option}: {', '.join(map(str, knob.values))}{fixed}"
    return [
        ("knob that compare sweeps", swept),
        ("moving cap", _yes(found.no_moving_cap)),
        ("importance weights", _yes(found.no_importance_weights)),
        ("gate", _gate(found)),
        ("pays wrong answers by length", _wrong(found)),
        *([("stages", ", ".join(found.stages))] if found.stages else []),
        *((f"in {engine}", said) for engine, said in found.engines.items()),
    ]


def _gate(found: Description) -> str:
    if found.gate is None:
        return "no length term, so nothing for a gate to keep back"
    return f"{found.gate}, unless --gate names another"


def _wrong(found: Description) -> str:
    """Whether it pays wrong answers by length, and which of two it then pays more."""
    if found.wrong_by_length is None:
        return "no"
    if not found.pays_wrong:
        return f"no, by its gate; with --gate none {found.wrong_by_length}"
    return f"yes: {found.wrong_by_length}" + ("" if found.gate is None else "; --gate keeps that back")


def _yes(why_not: str | None) -> str:
    return "yes" if why_not is None else f"no: {why_not}"
