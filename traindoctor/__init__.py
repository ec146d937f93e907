"""Says why a neural-network training went wrong, and which change repairs it, from its logs."""

__version__ = "0.1.0"
