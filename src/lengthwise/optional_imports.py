"""Imports of packages that only an extra brings: one that is missing, or fails for its own reasons, is one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from lengthwise.errors import LengthwiseError, MissingExtraError

EXTRAS: dict[str, tuple[str, ...]] = {
    "trl": ("trl", "accelerate", "datasets", "peft"),
    "verl": ("verl",),
    "vllm": ("vllm",),
    "liger": ("liger_kernel",),
    "parquet": ("pyarrow",),
    "zstd": ("zstandard",),
}
"""Extra -> what it brings; `pyproject.toml` says the same."""
BESIDE = ("transformers", "torch")
"""What these packages reach into most, so that its version tells why an import failed."""
LONGEST = 300
"""Characters of a reason that are shown."""


@contextmanager
def importing(who: str, package: str, extra: str) -> Iterator[None]:
    """Wrap the import of a package that an extra brings; `who` needs it.

    Raises:
        MissingExtraError: it is not installed, or is and fails for a reason of its own: a package that it reaches into
            is missing or has changed. The message says which, with the versions there are.
    """
    try:
        yield
    except LengthwiseError:
        raise
    except Exception as error:  # what a package raises while it is imported is anything: TRL a RuntimeError
        reason = _root(error)
        if isinstance(reason, ModuleNotFoundError) and reason.name in EXTRAS[extra]:
            raise MissingExtraError(
                f'{who} needs {reason.name}; install it with: pip install "lengthwise[{extra}]"'
            ) from error
        raise MissingExtraError(
            f"{who} needs {package}, which is installed but cannot be imported: {type(reason).__name__}: "
            f"{_short(reason)} (there are {_versions(package)}); install versions that go together, for example with: "
            f'pip install --upgrade "lengthwise[{extra}]"'
        ) from error


def _root(error: BaseException) -> BaseException:
    """The error that others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _versions(package: str) -> str:
    found = []
    for name in (package, *BESIDE):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found) or "no versions to tell"
