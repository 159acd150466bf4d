"""Shipped models under their names, and what is said where one cannot answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.data import read_rows
from lengthwise.errors import ConfigError, InputError
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.lab.shipped_models import model_folder, shipped_models


def test_every_shipped_model_has_a_name(tmp_path: Path) -> None:
    assert {"lab:chains", "lab:search", "lab:terse", "lab:witnesses"} <= set(shipped_models())
    for name in shipped_models():
        assert model_folder(name, in_its_world=True) == shipped_reasoner(name.removeprefix("lab:"))
    assert model_folder(str(shipped_reasoner())) == shipped_reasoner()


def test_what_cannot_answer_is_refused_with_what_can() -> None:
    with pytest.raises(ConfigError, match="only `lengthwise compare lab:witnesses` has that world"):
        model_folder("lab:witnesses")
    with pytest.raises(ConfigError, match=r"the lab ships lab:chains, lab:chains-modes, .*lab:search"):
        model_folder("lab:chess")
    with pytest.raises(InputError, match="no such folder"):
        model_folder("chess")
    # Without this the datasets library asks the hub for a data set called lab, five times.
    with pytest.raises(InputError, match=r"data is 'lab:search'.*write some to a file"):
        read_rows("lab:search")
