"""What verl's entry point ``verl.plugins`` imports: importing it registers this package's names with verl."""

from lengthwise.adapters.verl import load

load()
