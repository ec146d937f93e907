"""Checkpoints: what the weights and the optimizer's state say, read without PyTorch and without running what a file asks for."""
