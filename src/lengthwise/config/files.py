"""Settings in files: a YAML or JSON file or a run's folder in, defaults < file < flags, YAML or a run's config out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lengthwise.config import yaml_text
from lengthwise.config.command import Command
from lengthwise.config.definition import PANELS
from lengthwise.config.failures import SettingError
from lengthwise.errors import ConfigError

CONFIG = "config.json"
"""What a run's folder keeps its settings in."""
BESIDE_A_MODEL = "lengthwise.json"
"""What a folder keeps them in that is a model's, whose config.json is the model's own."""
COMMAND, SETTINGS = "command", "settings"
LARGEST = 1 << 20
"""Bytes of a file that may be settings; a larger one is taken for something else."""
Kind = TypeVar("Kind", bound=Command)


@dataclass(frozen=True)
class ConfigFile:
    """Settings as a file gives them: flat, in tables by group, or both; ``command`` where the file names it."""

    path: Path
    text: str
    command: str | None
    values: Mapping[str, object]

    def where(self, name: str) -> str:
        """File and line of a setting; the file alone where the line is not known."""
        lines = _lines(self.text)
        return f"{self.path}, line {lines[name]}" if name in lines else str(self.path)


def load(path: str | Path) -> ConfigFile:
    """Read settings from a YAML or JSON file, from a folder that a command wrote, or from the file that it keeps there.

    Raises:
        ConfigError: one line that names the file and, where there is one, the line: no such file, no YAML or JSON, no
            table of settings, a name that is given twice.
    """
    path = _file(Path(path))
    text = _text(path)
    found = _json(text, path) if path.suffix == ".json" else _yaml(text, path)
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: no table of settings in it; write a line name: value for each")
    return _checked(path, text, found)


def _file(path: Path) -> Path:
    """The file itself, or the one in which a folder keeps settings."""
    try:
        if not path.is_dir():
            return path
        found = next((path / name for name in (BESIDE_A_MODEL, CONFIG) if (path / name).is_file()), None)
    except OSError as error:
        raise ConfigError(
            f"config is {str(path)!r}: {error.strerror}; give a YAML or JSON file, or a run's folder"
        ) from error
    if found is None:
        raise ConfigError(f"config is {str(path)!r}, a folder without {CONFIG}; give a run's folder or a file")
    return found


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"config is {str(path)!r}, too large to be settings; give a YAML or JSON file of them")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"config is {str(path)!r}: {error.strerror}; give a YAML or JSON file, or a run's folder"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"config is {str(path)!r}: not UTF-8 text; give a YAML or JSON file of settings") from error


def _yaml(text: str, path: Path) -> object:
    try:
        return yaml_text.read(text)[0]
    except yaml_text.YamlError as error:
        raise _at(path, error.line, str(error)) from None


def _json(text: str, path: Path) -> object:
    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in found]
        for name in names:
            if names.count(name) > 1:
                raise _TwiceError(name)
        return dict(found)

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise _at(path, error.lineno, f"no JSON: {error.msg}") from None
    except _TwiceError as error:
        raise _at(path, _line_of_second(text), f"{error} is given twice; leave one of them out") from None
    except RecursionError:
        raise _at(path, None, "tables and lists lie too deep in each other") from None
    except ValueError:
        raise _at(path, None, "a number of thousands of digits is no setting") from None


class _TwiceError(Exception):
    """A name that a JSON object has twice."""


def _line_of_second(text: str) -> int | None:
    """Where a JSON text has a name twice; JSON is YAML, and that parser knows lines."""
    try:
        yaml_text.read(text)
    except yaml_text.YamlError as error:
        return error.line
    return None


def _lines(text: str) -> dict[str, int]:
    """The line of every name in a text that was read before."""
    try:
        return yaml_text.read(text)[1]
    except yaml_text.YamlError:
        return {}


def _at(path: Path, line: int | None, problem: str) -> ConfigError:
    return ConfigError(f"{path}{'' if line is None else f', line {line}'}: {problem}")


def _checked(path: Path, text: str, found: dict[str, object]) -> ConfigFile:
    """A file's table, or the settings in a run's config, whose other sections say what came of them."""
    command = found.get(COMMAND)
    if command is not None and not isinstance(command, str):
        raise ConfigError(f"{path}: command is {command!r}; give the name of a command, or leave it out")
    settings = found.get(SETTINGS)
    if path.name == CONFIG and not isinstance(settings, dict):
        raise ConfigError(
            f"{path} holds no settings: it is a model's, a run's inside of a comparison, or one of an older version; "
            "give a run's folder, or a file"
        )
    values = settings if isinstance(settings, dict) else {name: found[name] for name in found if name != COMMAND}
    return ConfigFile(path, text, command, values)


def merged(kind: type[Kind], file: ConfigFile | None, flags: Mapping[str, object]) -> Kind:
    """Settings of a command: its defaults, over them the file's, over them the flags' (by flat name).

    Raises:
        ConfigError: a file of another command, or a setting that is not what is wanted; one of the file's names its
            line.
    """
    if file is None:
        settings = kind.from_dict(flags)
        settings.check_needs(flags, kind.flag_of)
        return settings
    if file.command not in (None, kind.command):
        line = _lines(file.text).get(COMMAND)
        raise _at(
            file.path, line, f"command is {file.command}, but this is {kind.command}; give settings of {kind.command}"
        )
    try:
        kept = kind.flattened(file.values)
        settings = kind.from_dict({**kept, **flags})
        settings.check_needs(flags, kind.flag_of)
        # A file may hold all settings, so what has its default there was not asked for.
        settings.check_needs(kept.keys() & settings.changed().keys(), str)
        return settings
    except SettingError as error:
        if error.name is None or error.name in flags or error.name not in _names(file.values):
            raise
        raise ConfigError(f"{file.where(error.name)}: {error}") from None


def _names(values: Mapping[str, object]) -> set[str]:
    """Every name in a file, those in tables too."""
    inner = [set(value) for value in values.values() if isinstance(value, Mapping)]
    return set(values).union(*inner)


def dump_yaml(settings: Command) -> str:
    """All settings of a command as a file that `load` and `merged` make the same settings of."""
    values, entries = settings.to_dict(), settings.entries()
    lines = [f"{COMMAND}: {settings.command}"]
    for panel in PANELS:
        named = [key for key in values if entries[key].panel == panel]
        if named:
            lines += ["", f"# {panel}", *(f"{key}: {yaml_text.write(values[key])}" for key in named)]
    return "\n".join(lines) + "\n"


def run_config(settings: Command, **facts: object) -> dict[str, object]:
    """What a run's folder keeps as `CONFIG`: the command, its settings, and beside them what was resolved from them.

    Settings about one call alone (``--out``, ``--json`` and the like) are left out, so that the folder may be moved.
    """
    return {COMMAND: settings.command, SETTINGS: settings.recorded(), **facts}
