"""Training scripts: the order of the calls in their loops, read without running anything."""
