"""The same methods inside other people's engines, for more than one device: TRL (`trl`) and verl (`verl`).

Nothing is imported here: each adapter needs its own extra.
"""
