"""Logs of responses that already exist: their rows, and where the tokens of each response go."""
