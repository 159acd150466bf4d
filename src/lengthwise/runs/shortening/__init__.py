"""Shorten a model with a method: the request, the stages around the training loop, and what came of it."""
