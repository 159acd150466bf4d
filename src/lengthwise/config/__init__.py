"""Every setting once: its type, bounds, default, help and flag.

`settings.Settings` checks and travels; ``groups`` define the settings; ``commands`` put them together; `files` reads
and writes them; `tables` shows them.
"""
