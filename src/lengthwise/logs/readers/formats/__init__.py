"""The readers, one format a module. A new one is a module with a ``FORMAT``; nothing lists it."""
