"""The optimizer run again from the log: open loop, closed loop, and the search for the smallest sufficient change."""
