"""Faults of the optimizer's own settings: moments, eps, decay."""

from __future__ import annotations

from faults.declare import Fault, Sound

FAMILY = "optimizer"

FAULTS: tuple[Fault, ...] = ()
SOUND: tuple[Sound, ...] = ()
