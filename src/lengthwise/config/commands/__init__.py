"""One settings class per command."""

from __future__ import annotations

from lengthwise.config.command import Command
from lengthwise.config.commands.context import EvaluateContextSettings, ExtendSettings, GenerateSettings
from lengthwise.config.commands.evaluation import (
    CompareRecordsSettings,
    EvaluateSettings,
    GradeSettings,
    MethodsSettings,
    ReportSettings,
)
from lengthwise.config.commands.machine import DoctorSettings
from lengthwise.config.commands.training import CompareSettings, DemoSettings, ExportSettings, ShortenSettings
from lengthwise.config.commands.weights import MergeSettings, RepairSettings

__all__ = [
    "COMMANDS",
    "CompareRecordsSettings",
    "CompareSettings",
    "DemoSettings",
    "DoctorSettings",
    "EvaluateContextSettings",
    "EvaluateSettings",
    "ExportSettings",
    "ExtendSettings",
    "GenerateSettings",
    "GradeSettings",
    "MergeSettings",
    "MethodsSettings",
    "RepairSettings",
    "ReportSettings",
    "ShortenSettings",
]
COMMANDS: dict[str, type[Command]] = {
    kind.command: kind
    for kind in (
        GradeSettings,
        EvaluateSettings,
        DemoSettings,
        ShortenSettings,
        CompareSettings,
        MethodsSettings,
        GenerateSettings,
        ExtendSettings,
        EvaluateContextSettings,
        MergeSettings,
        RepairSettings,
        ExportSettings,
        ReportSettings,
        CompareRecordsSettings,
        DoctorSettings,
    )
}
"""Command -> its settings, in the order of `lengthwise --help`."""
