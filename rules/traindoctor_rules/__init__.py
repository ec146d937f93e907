"""The built-in rules: one file per cause, named like the cause."""

API = 1
