"""What will be written, looked at before the work: whether it can be, and whether it may replace what is there."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lengthwise.errors import ConfigError, InputError
from lengthwise.files import PARTIAL, disk_full, partial_of
from lengthwise.folder_lock import is_lock


def check_file_target(name: str, path: str | Path) -> None:
    """Refuse a file that cannot be written: before long work it is tried out, and nothing of that stays.

    Raises:
        ConfigError: naming the argument, the path and the reason.
    """
    path = Path(path)
    mode = _mode(name, path)
    if mode is not None and stat.S_ISDIR(mode):
        raise ConfigError(f"{name} is {str(path)!r}, a folder; name a file")
    if mode is not None and not stat.S_ISREG(mode):
        raise ConfigError(f"{name} is {str(path)!r}, a device or pipe, which cannot be replaced; name a file")
    _try_out(name, path, partial_of(path))


def check_folder_target(name: str, path: str | Path, *, replaced: bool = False) -> None:
    """Refuse a folder that cannot be written into; ``replaced``: it is written beside its place and then moved there.

    Raises:
        ConfigError: naming the argument, the path and the reason.
    """
    path = Path(path)
    mode = _mode(name, path)
    if mode is not None and not stat.S_ISDIR(mode):
        raise ConfigError(f"{name} is {str(path)!r}, which is a file; give a folder")
    if mode is None and path.is_symlink():
        raise ConfigError(f"{name} is {str(path)!r}, a symbolic link that leads nowhere; name an empty or new folder")
    if replaced and path.name not in ("", ".."):
        _try_out(name, path, partial_of(path, "old-"))
    else:
        _try_out(name, path, path / f"{PARTIAL}{os.getpid()}")


def _mode(name: str, path: Path) -> int | None:
    """The kind of what is there, behind symbolic links; None where nothing is."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unwritable(name, path, error) from error


def _try_out(name: str, path: Path, probe: Path) -> None:
    """Make the file `probe` and the folders above it, and remove all that was made."""
    made = [folder for folder in (probe.parent, *probe.parent.parents) if not os.path.lexists(folder)]
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"?")
        probe.unlink()
    except OSError as error:
        if disk_full(error):
            raise
        raise _unwritable(name, path, error) from error
    finally:
        for folder in made:
            with suppress(OSError):  # not made after all, or another process has put something into it
                folder.rmdir()


def _unwritable(name: str, path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{name} is {str(path)!r}, where nothing can be written ({error.strerror}); name another place")


def check_replacement(path: Path, *, overwrite: bool, inputs: Sequence[Path]) -> None:
    """Refuse an output that is an input, that exists without `overwrite`, or that should better not be replaced.

    Raises:
        InputError: naming the folder.
    """
    if path.name in ("", ".."):
        raise InputError(f"out is {str(path)!r}; give the folder by a name of its own")
    for folder in inputs:
        if real(path) == real(folder):
            raise InputError(f"out is {str(path)!r}, which is one of the inputs; give another folder")
        if real(path) in real(folder).parents:
            raise InputError(f"out is {str(path)!r}, which holds the input {str(folder)!r}; give another folder")
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"out is {str(path)!r}, which is a file; give a folder")
    if not overwrite:
        raise InputError(f"out is {str(path)!r}, which exists; give another folder, or overwrite it (--overwrite)")
    is_model = any((path / name).is_file() for name in ("config.json", "adapter_config.json"))
    if not is_model and not all(map(is_lock, path.iterdir())):
        raise InputError(f"out is {str(path)!r}, which holds no model, so it is not replaced; give another folder")


def real(path: str | Path) -> Path:
    """The absolute path behind symbolic links, as far as they lead: unlike for `Path.resolve`, a circle is no error."""
    return Path(os.path.realpath(path))
