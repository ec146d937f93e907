"""A small rule pack of somebody else's: one rule that works, one that fails while it runs."""

API = 1
