"""Who is told while tokens are written: a context, so that nothing between caller and sampler passes it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Drawn:
    """One step of decoding: tokens written, responses that ended with it, and the most steps that are still to come."""

    tokens: int
    ended: int
    left: int


Listener = Callable[[Drawn], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_ahead: ContextVar[int] = ContextVar("ahead", default=0)


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Within it every sampler tells `listener` of each step."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def before(steps: int) -> Iterator[None]:
    """Within it so many steps more are still to come, of parts that are drawn later."""
    token = _ahead.set(_ahead.get() + steps)
    try:
        yield
    finally:
        _ahead.reset(token)


def tell(tokens: int, ended: int, left: int) -> None:
    """What a sampler says after each step; nobody need listen."""
    listener = _listener.get()
    if listener is not None:
        listener(Drawn(tokens, ended, left + _ahead.get()))
