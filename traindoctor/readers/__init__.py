"""Log files -> runs: one format a file, and what was lost as a value."""
