"""The pipeline of `check`: files -> scripts and configs -> the mistakes that rules find in them. Nothing is run."""

from traindoctor.check.findings import SEVERITIES, Found, in_file, in_script
from traindoctor.check.mend import mended

__all__ = ["SEVERITIES", "Found", "in_file", "in_script", "mended"]
