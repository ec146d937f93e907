"""Classic failures of training, each trained on the spot in NumPy, diagnosed from its own log, and repaired by training again."""
