"""Length in language models: think in fewer tokens, read more tokens, repair weights.

Public functions are loaded when they are first used, so that ``import lengthwise`` stays light. It also makes the
position schemes of `lengthwise.context` known to transformers, as soon as that is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lengthwise.registering import register_schemes as _register_schemes

__version__ = "0.1.0"

_WHERE = {
    "Job": "lengthwise.study",
    "Method": "lengthwise.engine",
    "Record": "lengthwise.evaluation",
    "Sampling": "lengthwise.evaluation.evaluate",
    "TrainConfig": "lengthwise.engine",
    "build_method": "lengthwise.methods",
    "build_report": "lengthwise.evaluation.report",
    "compare": "lengthwise.evaluation",
    "demo": "lengthwise.study",
    "evaluate": "lengthwise.evaluation.evaluate",
    "grade": "lengthwise.evaluation",
    "load_policy": "lengthwise.engine",
    "prepare": "lengthwise.evaluation.problems",
    "preset": "lengthwise.evaluation",
    "read_rows": "lengthwise.data",
    "shorten": "lengthwise.study",
}

if TYPE_CHECKING:
    from lengthwise.data import read_rows as read_rows
    from lengthwise.engine import Method as Method
    from lengthwise.engine import TrainConfig as TrainConfig
    from lengthwise.engine import load_policy as load_policy
    from lengthwise.evaluation import Record as Record
    from lengthwise.evaluation import compare as compare
    from lengthwise.evaluation import grade as grade
    from lengthwise.evaluation import preset as preset
    from lengthwise.evaluation.evaluate import Sampling as Sampling
    from lengthwise.evaluation.evaluate import evaluate as evaluate
    from lengthwise.evaluation.problems import prepare as prepare
    from lengthwise.evaluation.report import build_report as build_report
    from lengthwise.methods import build_method as build_method
    from lengthwise.study import Job as Job
    from lengthwise.study.demo import demo as demo
    from lengthwise.study.shorten import shorten as shorten

__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'lengthwise' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__


_register_schemes()
