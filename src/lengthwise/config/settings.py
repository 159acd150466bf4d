"""`Settings`: values that are checked once, cannot change, and say in one line what is wrong with them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from lengthwise.config import values
from lengthwise.config.definition import Facts, facts_of
from lengthwise.config.failures import SettingError, failure, key_of, unknown


@dataclass(frozen=True)
class Entry:
    """A setting as users see it: its flat key, where it stands in Python, and what it says of itself."""

    key: str
    attribute: str
    group: str | None
    info: FieldInfo
    facts: Facts
    panel: str

    @property
    def flag(self) -> str:
        """Its long flag."""
        return "--" + self.key.replace("_", "-")

    @property
    def annotation(self) -> object:
        """Its type."""
        return self.info.annotation

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.info.is_required()

    @property
    def default(self) -> object:
        """Its value where it is not given; None for one that is required."""
        return None if self.required else self.info.default


class Settings(BaseModel):
    """Settings that travel together: frozen, each checked, unknown names refused.

    Settings of a subclass are made with `setting` or `again`; a field may also be a group, itself a `Settings`. Users
    write flat names in flags and files; groups are how settings travel in Python. A name that Python reserves
    (``lambda``, ``json``) has an underscore behind it there and none for users.

    Raises:
        ConfigError: one line that names the setting, its value and what is wanted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)
    panel: ClassVar[str] = "Method"

    def __init__(self, **given: object) -> None:
        fields = type(self).model_fields
        read = {
            name: values.from_value(value, fields[name].annotation, facts_of(fields[name]))
            if name in fields and not is_group(fields[name])
            else value
            for name, value in given.items()
        }
        try:
            super().__init__(**read)
        except ValidationError as error:
            raise failure(type(self), read, error) from None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for name, info in type(self).model_fields.items():
            if is_group(info):
                continue
            facts = facts_of(info)
            wrong = values.out_of_bounds(getattr(self, name), facts)
            if wrong is not None:
                raise SettingError(f"{key_of(name)} is {wrong}; {values.bounds(facts)}", key_of(name))
            most = values.LARGEST_SEED if name == "seed" else values.LARGEST
            if (wrong := values.beyond(getattr(self, name), most)) is not None:
                raise SettingError(
                    f"{key_of(name)} is {wrong}, beyond any use; give a number up to {most:,}", key_of(name)
                )
        self.check()
        return self

    def check(self) -> None:
        """Refuse settings that do not go together; a subclass calls its parent's first.

        Raises:
            ConfigError: in words of its own, which come through as they are.
        """

    @classmethod
    def label(cls) -> str:
        """What an error calls this class."""
        return cls.__name__

    @classmethod
    def entries(cls) -> dict[str, Entry]:
        """Every setting by its flat key, those of groups where the group stands."""
        return _entries(cls)

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """Defaults that depend on other settings, by flat key; ``given`` holds what was given."""
        return {}

    @classmethod
    def from_dict(cls, given: Mapping[str, object]) -> Self:
        """Settings from flat names, groups of them as tables, or both.

        Raises:
            ConfigError: a name that is unknown, was renamed or is given twice, a value that is not what is wanted.
        """
        flat = cls.flattened(given)
        flat = {**cls.dependent_defaults(flat), **flat}
        entries, own = cls.entries(), dict[str, object]()
        inner: dict[str, dict[str, object]] = {name: {} for name in groups(cls)}
        for key, value in flat.items():
            entry = entries[key]
            (own if entry.group is None else inner[entry.group])[entry.attribute] = value
        return cls(**own, **{name: kind(**inner[name]) for name, kind in groups(cls).items()})

    @classmethod
    def flattened(cls, given: Mapping[str, object]) -> dict[str, object]:
        """The same values by their flat keys, with groups opened.

        Raises:
            ConfigError: a name that is unknown, was renamed or is given twice.
        """
        found: dict[str, object] = {}
        for name, value, table in _opened(cls, given):
            key = key_of(name)
            if key not in cls.entries():
                raise cls.no_such_setting(key)
            if table is not None and cls.entries()[key].group != table:
                raise SettingError(f"{key} stands in {table}, which it is no part of; write it outside of it", key)
            if key in found:
                raise SettingError(f"{key} is given twice, by itself and in a group; leave one of them out", key)
            found[key] = value
        return found

    @classmethod
    def no_such_setting(cls, key: str) -> SettingError:
        """The error for a name that is no setting of this class."""
        return unknown(key, cls.entries(), cls.label())

    def flat(self) -> dict[str, object]:
        """Every value by its flat key, as Python holds it."""
        return {
            key: getattr(self if entry.group is None else getattr(self, entry.group), entry.attribute)
            for key, entry in self.entries().items()
        }

    def to_dict(self) -> dict[str, object]:
        """Every value by its flat key, as JSON holds it; `from_dict` gives equal settings, floats to the last bit."""
        return {key: values.to_json(value) for key, value in self.flat().items()}

    def changed(self) -> dict[str, object]:
        """The values that are not the default, by flat key."""
        found = self.flat()
        defaults = {key: entry.default for key, entry in self.entries().items()}
        defaults |= self.dependent_defaults(found)
        return {key: value for key, value in found.items() if self.entries()[key].required or value != defaults[key]}

    def replace(self, **changes: object) -> Self:
        """The same settings with other values, by flat name or a group as a whole; all is checked again."""
        return self.from_dict({**self.flat(), **self.flattened(changes)})


def is_group(info: FieldInfo) -> bool:
    """Whether a field holds a group of settings."""
    return isinstance(info.annotation, type) and issubclass(info.annotation, Settings)


@functools.cache
def groups(kind: type[Settings]) -> dict[str, type[Settings]]:
    """The groups of a class by the names of their fields."""
    return {name: info.annotation for name, info in kind.model_fields.items() if is_group(info)}  # type: ignore[misc]


@functools.cache
def _entries(kind: type[Settings]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for group, attribute, info, panel in _fields(kind):
        key, facts = key_of(attribute), facts_of(info)
        if key in found:
            raise TypeError(f"{kind.__name__} has {key} twice")
        found[key] = Entry(key, attribute, group, info, facts, facts.panel or panel)
    if both := found.keys() & groups(kind).keys():
        raise TypeError(f"{kind.__name__} has settings and groups of one name: {', '.join(both)}")
    return found


def _fields(kind: type[Settings]) -> Iterator[tuple[str | None, str, FieldInfo, str]]:
    for name, info in kind.model_fields.items():
        if name not in groups(kind):
            yield None, name, info, kind.panel
            continue
        inner = groups(kind)[name]
        for attribute, field in inner.model_fields.items():
            if is_group(field):
                raise TypeError(f"{inner.__name__}.{attribute} is a group in a group; settings are two levels deep")
            yield name, attribute, field, inner.panel


def _opened(kind: type[Settings], given: Mapping[str, object]) -> Iterator[tuple[str, object, str | None]]:
    """(name, value, the group it was given in) of everything that was given."""
    for name, value in given.items():
        if name not in groups(kind):
            yield name, value, None
            continue
        inner = value.flat() if isinstance(value, Settings) else value
        if not isinstance(inner, Mapping):
            raise SettingError(f"{name} is {value!r}; it is a group, so give its settings by name", name)
        for key, found in inner.items():
            yield str(key), found, name
