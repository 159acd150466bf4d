"""Length in language models: think in fewer tokens, read more tokens, repair weights.

Public functions are loaded when they are first used, so that ``import lengthwise`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_WHERE = {
    "DemoSettings": "lengthwise.config.commands",
    "Job": "lengthwise.runs",
    "Method": "lengthwise.engine",
    "Record": "lengthwise.statistics",
    "Sampling": "lengthwise.config.groups.sampling",
    "ShortenSettings": "lengthwise.config.commands",
    "Training": "lengthwise.config.groups.training",
    "build_method": "lengthwise.methods",
    "build_report": "lengthwise.reporting.run_report",
    "compare": "lengthwise.statistics",
    "demo": "lengthwise.runs",
    "evaluate": "lengthwise.generation.sampling",
    "grade": "lengthwise.grading",
    "load_policy": "lengthwise.engine",
    "prepare": "lengthwise.grading.problems",
    "preset": "lengthwise.grading",
    "read_rows": "lengthwise.data",
    "shorten": "lengthwise.runs",
    "shorten_by": "lengthwise.runs",
}

if TYPE_CHECKING:
    from lengthwise.config.commands import DemoSettings as DemoSettings
    from lengthwise.config.commands import ShortenSettings as ShortenSettings
    from lengthwise.config.groups.sampling import Sampling as Sampling
    from lengthwise.config.groups.training import Training as Training
    from lengthwise.data import read_rows as read_rows
    from lengthwise.engine import Method as Method
    from lengthwise.engine import load_policy as load_policy
    from lengthwise.generation.sampling import evaluate as evaluate
    from lengthwise.grading import grade as grade
    from lengthwise.grading import preset as preset
    from lengthwise.grading.problems import prepare as prepare
    from lengthwise.methods import build_method as build_method
    from lengthwise.reporting.run_report import build_report as build_report
    from lengthwise.runs import Job as Job
    from lengthwise.runs.chains_demo import demo as demo
    from lengthwise.runs.shortening.resolve import shorten_by as shorten_by
    from lengthwise.runs.shortening.shorten import shorten as shorten
    from lengthwise.statistics import Record as Record
    from lengthwise.statistics import compare as compare

__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'lengthwise' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
