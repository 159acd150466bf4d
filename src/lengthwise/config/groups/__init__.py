"""The settings of all commands, each defined once, in the groups in which they travel."""
