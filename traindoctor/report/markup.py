"""What every page is made with: the templates, sentences as markup, and the hashes that its policy holds."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import lru_cache
from importlib import resources

import jinja2
from markupsafe import Markup, escape

from traindoctor.report.wording import begun, count

_CODE = re.compile(r"`([^`\n]{1,200})`")
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)|(?<=s)'(?= )")
_NUMBER = re.compile(r"(?<![\w.])(\d[\d.,]*e[-−+]?\d+|[\d,.]+\d [%×]|(?:TD)\d{3}|\w+ = \d(?:[\d.]*\d)?(?:e[-−+]?\d+)?)(?!\w)")


def prose(text: str) -> Markup:
    """Return a sentence as markup: `code` between backticks, numbers that must not break at their minus; all escaped."""
    parts: list[Markup] = []
    for i, piece in enumerate(_CODE.split(text)):
        if i % 2:
            whole = Markup(' class="nb"') if "-" in piece and len(piece) <= 24 else Markup("")  # a browser breaks after hyphens
            parts.append(Markup("<code{}>{}</code>").format(whole, piece))
            continue
        at = 0
        for found in _NUMBER.finditer(piece):
            parts += [escape(_quote(piece[at : found.start()])), Markup('<span class="nb">{}</span>').format(found[0])]
            at = found.end()
        parts.append(escape(_quote(piece[at:])))
    return Markup("").join(parts)


def _quote(text: str) -> str:
    return _APOSTROPHE.sub("’", text)


def diff_lines(patch: str) -> list[tuple[str, Markup]]:
    """Return a patch as (kind, line): "meta", "add", "del" or "same".

    A carriage return is written as a reference: a parser takes a bare one for a line break, and the copy would not apply.
    """
    made = []
    for line in patch.split("\n")[: -1 if patch.endswith("\n") else None]:
        head = line[:4]
        kind = "meta" if head in ("--- ", "+++ ") or line.startswith("@@") else {"+": "add", "-": "del"}.get(line[:1], "same")
        made.append((kind, escape(line).replace("\r", Markup("&#13;"))))
    return made


def embedded(data: object) -> Markup:
    """Return an object as JSON that can stand in a script element: no angle bracket, ampersand or line separator is bare."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # nothing is left to escape


def digest(source: str) -> str:
    """Return a style or a script as a Content Security Policy names it: "sha256-..."."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@lru_cache(maxsize=16)
def source(name: str) -> str:
    """Return the text of a file of this package, "templates/report.css"."""
    return resources.files("traindoctor.report").joinpath(*name.split("/")).read_text(encoding="utf-8")


def licensed(name: str) -> str:
    """Return a script as `source` does; a vendored one under its licence, which goes where the script goes."""
    place, _, file = name.rpartition("/")
    if not place.startswith("_vendor/"):
        return source(name)
    known = json.loads(source(f"{place}/VERSION.json"))
    head = f"{known['name']} {known['version']}, {known['license']} License, {known['url']}"
    return f"/*! {head}\n\n{source(f'{place}/LICENSE').strip()} */\n{source(f'{place}/{file}')}"


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Return the templates, with autoescape, and an error for a name that was not given."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("traindoctor.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["prose"] = prose
    made.filters["begun"] = begun
    made.filters["diff"] = diff_lines
    made.filters["count"] = count
    return made
