"""Names of rooms that were split stay importable from the old one, with a warning that says where they are."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize("old", ["lengthwise.evaluation", "lengthwise.weights"])
def test_every_old_name_warns_and_is_the_new_one(old: str) -> None:
    room = importlib.import_module(old)
    for name in room.__all__:
        with pytest.warns(DeprecationWarning, match=rf"{old}\.{name} is now lengthwise\.\S+\.{name};"):
            found = getattr(room, name)
        assert getattr(importlib.import_module(found.__module__), found.__name__) is found


def test_a_name_that_never_was_says_where_the_others_went() -> None:
    weights = importlib.import_module("lengthwise.weights")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'; its names moved to lengthwise.merging"):
        weights.nonsense  # noqa: B018
