"""Settings of the command that looks at the installation."""

from __future__ import annotations

from lengthwise.config.command import Command
from lengthwise.config.definition import again
from lengthwise.config.groups.common import Common


class DoctorSettings(Command):
    """Show what is installed here, what each extra would add, and what is wrong; exit code 1 where something is."""

    command = "doctor"
    examples = ("lengthwise doctor", "lengthwise doctor --json > doctor.json")

    json_: bool = again(Common, "json_")
