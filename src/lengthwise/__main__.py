"""`python -m lengthwise`: the command line."""

from __future__ import annotations

from lengthwise.cli import main

main()
