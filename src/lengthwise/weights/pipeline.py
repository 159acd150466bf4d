"""One step of work ahead: the next block is read while this one is merged. numpy and file reads leave the lock."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items in the same order, each made in a thread while the caller works on the one before.

    An error raised while an item is made is raised where that item would have come.
    """
    done = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, done)
        while (item := coming.result()) is not done:
            coming = thread.submit(next, items, done)
            yield item  # type: ignore[misc]
