"""How a document of JUnit's test suites is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET


def document(root: ET.Element) -> str:
    """Return an element as a document in UTF-8, with a line break at its end."""
    import xml.etree.ElementTree as ET

    ET.indent(root)
    return f"<?xml version='1.0' encoding='UTF-8'?>\n{ET.tostring(root, encoding='unicode')}\n"
