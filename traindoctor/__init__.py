"""Says why a neural-network training went wrong, and which change repairs it, from its logs.

    import traindoctor

    report = traindoctor.diagnose("logs/")

Importing the package imports nothing heavy: each public name is looked up when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traindoctor.api import diagnose
    from traindoctor.errors import ConfigError, RulePackError, TraindoctorError, UnreadableInputError
    from traindoctor.model import Finding, Fix, Report, RunReport
    from traindoctor.report.from_json import read_report

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "Finding",
    "Fix",
    "Report",
    "RulePackError",
    "RunReport",
    "TraindoctorError",
    "UnreadableInputError",
    "__version__",
    "diagnose",
    "read_report",
]

#: Public name -> the module that defines it.
_PLACES = {
    "ConfigError": "traindoctor.errors",
    "Finding": "traindoctor.model",
    "Fix": "traindoctor.model",
    "Report": "traindoctor.model",
    "RulePackError": "traindoctor.errors",
    "RunReport": "traindoctor.model",
    "TraindoctorError": "traindoctor.errors",
    "UnreadableInputError": "traindoctor.errors",
    "diagnose": "traindoctor.api",
    "read_report": "traindoctor.report.from_json",
}


def __getattr__(name: str) -> object:
    """Return a public name, imported on first use.

    Raises: AttributeError for any other name.
    """
    if name not in _PLACES:
        raise AttributeError(f"module 'traindoctor' has no attribute {name!r}")
    found: object = getattr(import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names and the modules that are loaded."""
    return sorted({*globals(), *__all__})
