"""Arithmetic on the weights of models with the same names and shapes."""

from __future__ import annotations

from lengthwise.weights.selective import update_selective_merge as update_selective_merge

__all__ = ["update_selective_merge"]
