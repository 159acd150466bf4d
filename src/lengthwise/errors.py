"""Every exception and warning of the package.

One root, `LengthwiseError`. Each subclass is also the standard error it stands for, so callers may catch
either. To add one: derive from the root and a standard class, give it one docstring line, take one message.
"""

from __future__ import annotations


class LengthwiseError(Exception):
    """Root of every error that this package raises on purpose."""


class InputError(LengthwiseError, ValueError):
    """An argument, a file or a row is not what is wanted; the message names it and the way out."""


class ShapeError(InputError):
    """Tensors that must agree in shape, rank or dtype do not."""


class ConfigError(InputError):
    """An option has an impossible value, or two options exclude each other."""


class UnsupportedModelError(LengthwiseError, ValueError):
    """The loaded model cannot be served exactly; the message says which check failed."""


class CheckpointError(LengthwiseError, RuntimeError):
    """A checkpoint or a run folder is damaged, unfinished or belongs to another run."""


class TrainingError(LengthwiseError, RuntimeError):
    """Training cannot go on: nothing mixed to learn from, or a loss that is not finite."""


class BackendError(LengthwiseError, RuntimeError):
    """What writes the tokens cannot be started, or stopped while it was at work."""


class EndpointError(LengthwiseError, RuntimeError):
    """A server refuses a request, or does not answer however often it is asked."""


class MissingExtraError(LengthwiseError, RuntimeError):
    """An optional dependency is missing, or fails to import; the message names the extra that brings it."""


class LengthwiseWarning(UserWarning):
    """Something runs but will probably not do what was wanted."""
