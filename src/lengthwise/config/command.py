"""`Command`: the settings of one command, with what its help and errors say."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.config.failures import SettingError
from lengthwise.config.renames import renamed
from lengthwise.config.settings import Settings


@dataclass(frozen=True)
class Need:
    """Settings by ``names`` that do nothing unless ``met``, which sees all values by flat key.

    ``otherwise`` says where they do nothing, to end a sentence with.
    """

    names: tuple[str, ...]
    met: Callable[[Mapping[str, object]], bool]
    otherwise: str


class Command(Settings):
    """The settings of a command; a subclass's docstring is the command's help.

    ``command``: its name. ``examples``: two command lines. ``refused``: flags that it does not take though others do,
    with the reason. ``needs``: what has an effect only beside other settings; a flag or a line of a file without one
    is refused, while Python may set what is not used.
    """

    command: ClassVar[str]
    examples: ClassVar[tuple[str, str]]
    refused: ClassVar[Mapping[str, str]] = {}
    needs: ClassVar[tuple[Need, ...]] = ()

    @classmethod
    def label(cls) -> str:
        """The command's name."""
        return cls.command

    @classmethod
    def help(cls) -> str:
        """What the command does: the class's docstring."""
        return inspect.cleandoc(cls.__doc__ or "")

    @classmethod
    def no_such_setting(cls, key: str) -> SettingError:
        """Says what a setting is called now, or why there is none, before it lists what there is."""
        flag = "--" + key.replace("_", "-")
        if flag in cls.refused:
            return SettingError(f"{key} {cls.refused[flag]}", key)
        new = renamed(cls.command, flag)
        if new is not None:
            return SettingError(f"{key} is now {new.as_key()}", key)
        return super().no_such_setting(key)

    @classmethod
    def no_such_flag(cls, flag: str) -> SettingError:
        """The same for a flag of the command line."""
        if flag in cls.refused:
            return SettingError(f"{flag} {cls.refused[flag]}")
        new = renamed(cls.command, flag)
        if new is not None:
            return SettingError(f"{flag} is now {new.text}")
        flags = [
            entry.flag for entry in cls.entries().values() if not entry.facts.positional and not entry.facts.hidden
        ]
        near = difflib.get_close_matches(flag, flags, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ";"
        return SettingError(f"{flag} is no flag of {cls.command}{hint} `lengthwise {cls.command} --help` lists them")

    @classmethod
    def flag_of(cls, key: str) -> str:
        """The flag of a setting."""
        return cls.entries()[key].flag

    def check_needs(self, given: Collection[str], shown: Callable[[str], str]) -> None:
        """Refuse settings among ``given`` (flat keys) that would have no effect; ``shown`` is how an error names one.

        Raises:
            SettingError: naming the setting and what it lacks.
        """
        values = self.flat()
        for need in self.needs:
            for name in need.names:
                if name in given and not need.met(values):
                    raise SettingError(
                        f"{shown(name)} has no effect {need.otherwise}; leave it out, or change that", name
                    )

    def recorded(self) -> dict[str, object]:
        """What a run folder keeps in its config: all settings but those about this call alone, such as --out."""
        entries = self.entries()
        return {key: value for key, value in self.to_dict().items() if not entries[key].facts.transient}
