"""Faults of the learning rate and its schedule."""

from __future__ import annotations

from faults.declare import Fault, Sound

FAMILY = "learning_rate"

FAULTS: tuple[Fault, ...] = ()
SOUND: tuple[Sound, ...] = ()
