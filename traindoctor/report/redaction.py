"""A report without the secrets that logs, configs and command lines hold: it is made to be sent to others.

What counts as one is decided by the name of a setting (`api_key`, `HF_TOKEN`), and in free text by its form (credentials in a
URL, a key in its query, an assignment, the fixed beginnings of well-known keys). A `tokenizer`, `max_tokens` and
`pad_token: <pad>` stay.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from traindoctor.model import Fix, Series, Setting

if TYPE_CHECKING:
    from traindoctor.model import Report

T = TypeVar("T")

#: What stands in the place of a secret.
HIDDEN = "[redacted]"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ALWAYS = frozenset({"password", "passwd", "passphrase", "secret", "secrets", "credential", "credentials", "apikey"})
#: Before "key" or "token": words that make a secret of it.
_OF = frozenset({"api", "access", "secret", "private", "auth", "hf", "hub", "wandb", "aws", "gcp", "azure", "session", "bearer"})
#: A value that was made by a machine, and not written by a person: long, of one piece, with a digit.
_RANDOM = re.compile(r"(?=.*\d)[\w\-./+=:]{16,}")

_URL_USER = re.compile(r"(?<=://)[^/\s@]*@(?=[^\s/])")
_QUERY = re.compile(r"(?i)([?&;][\w.\-]*(?:token|key|secret|passw|signature|credential|\bsig|auth)[\w.\-]*=)[^&#\s\"'`,)]+")
_ASSIGNED = re.compile(
    r"((?i:\b[\w\-]*(?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|passw(?:or)?d|(?:auth|access|api|hf|hub|bearer)[_-]?token))"
    r"|\b[A-Z][A-Z0-9_]*_(?:KEY|TOKEN))"
    r"([\"']?\s*[=:]\s*[\"']?)(?!\[redacted\])([^\s\"',;}&)]{4,})"
)
_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[\w\-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w\-]{16,}"
    r"|xox[abpr]-[\w\-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w\-]{30,})"
)
#: What a text with a secret has at least; looked for first, since nearly no text has one.
_MAYBE = re.compile(r"(?i)://|key|token|secret|passw|hf_|sk-|gh[pousr]_|github_pat|glpat|xox|AKIA|AIza")


def is_secret(key: str, value: object) -> bool:
    """Return whether a setting of this name and value is one to keep to oneself."""
    name = re.split(r"[./]", key)[-1]
    words = [word.lower() for word in _WORD.findall(name)]
    if value is None or isinstance(value, bool) or not words or value == "":
        return False
    if _ALWAYS & set(words) or words[-2:] == ["pass", "word"]:
        return True
    if words[-1] not in ("key", "keys", "token", "tokens") or not isinstance(value, str):
        return False
    named = name.isupper() or bool(_OF & set(words)) or words == ["token"]
    return named or _RANDOM.fullmatch(value) is not None


def redacted_text(text: str) -> str:
    """Return a text with its secrets replaced by "[redacted]"."""
    if not _MAYBE.search(text):
        return text
    text = _URL_USER.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1{HIDDEN}", text)
    text = _ASSIGNED.sub(rf"\1\2{HIDDEN}", text)
    return _KNOWN.sub(HIDDEN, text)


def without_secrets(patch: str) -> str | None:
    """Return a patch of one file with fewer lines around its changes where those hold a secret.

    `git apply` still takes it. None where a secret is in a changed line, or so near that nothing else could be left out.
    """
    if redacted_text(patch) == patch:
        return patch
    made: list[str] = []
    hunk: list[str] = []
    head = ""
    for line in [*patch.splitlines(keepends=True), "@@"]:
        if not line.startswith("@@"):
            (hunk if head else made).append(line)
            continue
        kept = _hunk_without(head, hunk) if head else ""
        if kept is None:
            return None
        made.append(kept)
        head, hunk = line, []
    return "".join(made)


_RANGES = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def _hunk_without(head: str, lines: list[str]) -> str | None:
    """Return one part of a patch from behind the last secret before its changes to before the first secret behind them."""
    ranges = _RANGES.match(head)
    changed = [i for i, line in enumerate(lines) if line[:1] in "+-"]
    if ranges is None or not changed or redacted_text(head) != head:
        return None
    hidden = [i for i, line in enumerate(lines) if redacted_text(line) != line]
    first, last = changed[0], changed[-1]
    start = max((i + 1 for i in hidden if i < first), default=0)
    stop = min((i for i in hidden if i > last), default=len(lines))
    if any(first <= i <= last for i in hidden) or (stop < len(lines) and stop == last + 1):
        return None  # without a line behind the changes, git takes them to end the file
    kept = lines[start:stop]
    old, new = (sum(line[:1] != sign for line in kept if line[:1] != "\\") for sign in "+-")
    return "".join((f"@@ -{int(ranges[1]) + start},{old} +{int(ranges[3]) + start},{new} @@\n", *kept))


def redacted(report: Report) -> Report:
    """Return the report without secrets: the same object where it holds none."""
    known = {
        str(one.value)
        for run in report.runs
        for key, one in run.run.settings.items()
        if is_secret(key, one.value) and len(str(one.value)) >= 6
    }
    return _walked(report, sorted(known, key=lambda value: (-len(value), value)))


def _text(text: str, known: list[str]) -> str:
    for value in known:
        text = text.replace(value, HIDDEN)
    return redacted_text(text)


def _walked(value: T, known: list[str]) -> T:
    """Return a value with every text in it redacted; what needs no change stays the same object."""
    made: Any = value
    if isinstance(value, str):
        text = _text(value, known)
        made = value if text == value else text
    elif isinstance(value, tuple) and type(value) is tuple:
        items = tuple(_walked(one, known) for one in value)
        made = value if all(a is b for a, b in zip(items, value, strict=True)) else items
    elif isinstance(value, Mapping):
        pairs = {key: _entry(key, one, known) for key, one in value.items()}
        made = value if all(pairs[key] is one for key, one in value.items()) else pairs
    elif isinstance(value, Series):  # its points are numbers, and there may be millions
        tag, source = _text(value.tag, known), _text(value.source, known)
        made = value if (tag, source) == (value.tag, value.source) else dataclasses.replace(value, tag=tag, source=source)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        if isinstance(value, Fix) and value.patch is not None:
            hidden = _text(value.patch, known) != redacted_text(value.patch)
            fields["patch"] = None if hidden else without_secrets(value.patch)
            fields |= {name: _walked(one, known) for name, one in fields.items() if name != "patch"}
        else:
            fields = {name: _walked(one, known) for name, one in fields.items()}
        changed = {name: one for name, one in fields.items() if one is not getattr(value, name)}
        made = dataclasses.replace(value, **changed) if changed else value
    result: T = made
    return result


def _entry(key: object, value: Any, known: list[str]) -> Any:
    inner = value.value if isinstance(value, Setting) else value
    if not is_secret(str(key), inner):
        return _walked(value, known)
    return dataclasses.replace(value, value=HIDDEN) if isinstance(value, Setting) else HIDDEN
