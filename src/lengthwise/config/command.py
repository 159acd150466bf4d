"""`Command`: the settings of one command, with what its help and errors say."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import ClassVar

from lengthwise.config.failures import SettingError
from lengthwise.config.renames import renamed
from lengthwise.config.settings import Settings


class Command(Settings):
    """The settings of a command; a subclass's docstring is the command's help.

    ``command``: its name. ``examples``: two command lines. ``refused``: flags that it does not take though others do,
    with the reason.
    """

    command: ClassVar[str]
    examples: ClassVar[tuple[str, str]]
    refused: ClassVar[Mapping[str, str]] = {}

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

    def recorded(self) -> dict[str, object]:
        """What a run folder keeps in its config: all settings but those about this call alone, such as --out."""
        entries = self.entries()
        return {key: value for key, value in self.to_dict().items() if not entries[key].facts.transient}
