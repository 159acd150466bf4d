"""How a setting is defined: type, bounds, default, one line of help and its flag, each in one place of the package."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field
from pydantic.fields import FieldInfo

from lengthwise.json_types import JsonObject

if TYPE_CHECKING:
    from lengthwise.config.settings import Settings

PANELS = ("Model", "Data and prompt", "Method", "Training", "Evaluation", "Output")
"""Headings under which `--help` and the docs list settings, in this order."""
REQUIRED = ...
"""The default of a setting that has to be given."""
Target = Literal["folder", "whole folder", "file", "page"]
"""What a setting names that is written: a folder that is filled, or one that appears whole; a file, or a page with a
picture of the same name beside it."""
Group = TypeVar("Group", bound="Settings")
SAME = object()
"""The default that a setting has where it is defined."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a setting says of itself beside its type and default; see `setting` for each."""

    help: str
    panel: str | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    wanted: str | None = None
    refusal: str | None = None
    default_text: str | None = None
    metavar: str | None = None
    positional: bool = False
    commas: bool = False
    read: Callable[[object], object] | None = None
    hidden: bool = False
    transient: bool = False
    writes: Target | None = None
    defined: bool = True

    def __call__(self, schema: JsonObject) -> None:
        """What pydantic asks for when it writes a JSON schema: the help and the bounds."""
        bounds = {"minimum": self.ge, "exclusiveMinimum": self.gt, "maximum": self.le, "exclusiveMaximum": self.lt}
        schema["description"] = self.help
        schema.update({name: bound for name, bound in bounds.items() if bound is not None})


def setting(default: object = REQUIRED, *, help: str, **facts: Any) -> Any:  # noqa: A002
    """A field of a `Settings` class: the one definition of a setting.

    Its type is the annotation: bool, int, float, str, Path, a Literal, a tuple of one of them, and unions with None or
    a Literal. Facts: ``panel`` (one of `PANELS`; the class's own by default); ``ge``, ``gt``, ``le``, ``lt`` (bounds of
    the number, or of each number of a tuple); ``wanted`` (what to give, for a value of another type); ``refusal`` (the
    way out of a value out of bounds); ``default_text`` (the default in words); ``metavar``; ``positional`` (an argument
    in place of a flag); ``commas`` (a tuple is one text with commas on the command line, else a flag that repeats);
    ``read`` (from a text to the value, where the type is not enough); ``hidden`` (no flag); ``transient`` (about this
    call and not about the run: left out of a run folder's config); ``writes`` (a `Target`, tried out before the work).
    """
    return _field(default, Facts(help=help, **facts))


def again(owner: type[Settings], name: str, default: object = SAME, **changes: Any) -> Any:
    """A setting that ``owner`` defines, with another default where one is given, and with the facts that change."""
    info = owner.model_fields[name]
    facts = facts_of(info)
    if default is not SAME:  # words for the old default would be wrong
        facts = dataclasses.replace(facts, default_text=None)
    facts = dataclasses.replace(facts, **{"panel": facts.panel or owner.panel, "defined": False, **changes})
    return _field(info.default if default is SAME else default, facts)


def group(kind: type[Group]) -> Group:
    """A field that holds a group of settings, by default with all of the group's own defaults."""
    return Field(default_factory=kind)


def facts_of(info: FieldInfo) -> Facts:
    """What a field that `setting` or `again` made says of itself."""
    facts = info.json_schema_extra
    if not isinstance(facts, Facts):
        raise TypeError("a field of a Settings class is neither a setting nor a group; define it with setting(...)")
    return facts


def _field(default: object, facts: Facts) -> Any:
    return Field(default, json_schema_extra=facts)
