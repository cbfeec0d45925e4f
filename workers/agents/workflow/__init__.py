"""Workflows: a fixed graph of steps. Knows the author's words; nothing of the engine."""
