"""Python of the user's own: a file, or ``module:function``; whatever it raises is said in one line with its place."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from lengthwise.errors import ConfigError, InputError, LengthwiseError

PACKAGE = Path(__file__).resolve().parent
LONGEST = 400
"""Characters of what was raised that are shown: some libraries say pages."""


def from_file(path: Path, what: str) -> ModuleType:
    """The module that a file makes, run once for each of its contents; it may import what lies beside it.

    `what` begins the messages: "method is 'mine.py'".

    Raises:
        ConfigError: no such file, or one that cannot be run; the message names the line.
    """
    if not path.is_file():
        raise ConfigError(f"{what}: no such file; check the path (the working folder is {Path.cwd()})")
    with _importing(f"{what}: it cannot be run:"):
        return _run_file(path.resolve(), hashlib.sha256(path.read_bytes()).hexdigest()[:16])


@functools.cache
def _run_file(path: Path, digest: str) -> ModuleType:
    # A name of its own, so that my_method.py beside json.py hides nothing, and one for each content of the file.
    name = f"_lengthwise_own_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does: dataclasses and pickle look a class's module up by its name
    try:
        with _beside(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def from_module(name: str, what: str) -> ModuleType:
    """A module by its name, looked for in the working folder too.

    Raises:
        ConfigError: no such module, or one that cannot be imported; the message names the line.
    """
    with _beside(Path.cwd()), _importing(f"{what}: module {name!r} cannot be imported:"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there and lacks a dependency of its own
            raise ConfigError(
                f"{what}: no module {error.name!r}; install it, or run from the folder that holds it"
            ) from error


@contextmanager
def naming(what: str, kind: type[LengthwiseError] = InputError) -> Iterator[None]:
    """Say in one line, with file and line, what the user's own code raises inside; an error of ours stays of its kind.

    `what` begins the line: "the reward of 'mine.py' raised".

    Where memory runs out is no fault of one line, so that error is left as it is.

    Raises:
        LengthwiseError: of `kind`, for whatever else was raised.
    """
    try:
        yield
    except LengthwiseError as error:
        place = _place(error)
        if not place or place in str(error) or type(error).__module__ != LengthwiseError.__module__:
            raise
        raise type(error)(f"{error}{place}") from error
    except MemoryError:
        raise
    except Exception as error:
        raise kind(f"{what} {_said(error)}{_place(error)}") from error


@contextmanager
def _importing(what: str) -> Iterator[None]:
    """The same for an import, which may not leave the program either."""
    with naming(what, ConfigError):
        try:
            yield
        except SystemExit as error:
            raise ConfigError(
                f"{what} it leaves the program; put what it does as a program under if __name__ == '__main__'"
            ) from error


def _said(error: BaseException) -> str:
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def _place(error: BaseException) -> str:
    """File and line of the innermost frame that is the user's own, else of an installed package's; empty for ours."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({_shown(error.filename)}, line {error.lineno})"
    stdlib, packages = _installed()
    mine, theirs = [], []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename).resolve()
        if path.is_relative_to(packages):
            theirs.append(frame)
        elif not (path.is_relative_to(PACKAGE) or path.is_relative_to(stdlib) or frame.filename.startswith("<")):
            mine.append(frame)
    chosen = mine or ([] if isinstance(error, LengthwiseError) else theirs)
    return f" ({_shown(chosen[-1].filename)}, line {chosen[-1].lineno})" if chosen else ""


def _shown(filename: str) -> str:
    path, here = Path(filename), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else filename


@functools.cache
def _installed() -> tuple[Path, Path]:
    """Where Python's own library lies, and what pip installs."""
    return Path(sysconfig.get_path("stdlib")).resolve(), Path(sysconfig.get_path("purelib")).resolve()


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Let imports find what lies in a folder: an installed command does not look beside the user, python -m does."""
    here = str(folder)
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's code may have taken it out itself
            sys.path.remove(here)
