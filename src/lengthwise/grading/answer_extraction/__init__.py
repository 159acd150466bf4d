"""Which answers a text states: readers, one per kind, and the one answer that a response gives."""
