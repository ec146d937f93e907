"""Optimizer recurrences as pure functions, one family per file, and their stability limits."""
