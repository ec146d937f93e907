"""The settings of the optimizer that a script builds, each with its place, and the edits that change them."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.constructors import constructions
from traindoctor.code.script import Script
from traindoctor.mistake import Edit
from traindoctor.optim.signatures import CANONICAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traindoctor.code.constructors import Construction, Given
    from traindoctor.mistake import Location

#: Settings that constructors take, beside the pair of betas.
FIELDS = ("lr", "beta1", "beta2", "eps", "momentum", "nesterov", "alpha", "weight_decay", "amsgrad", "dampening", "centered")
_BETAS = {"beta1": 0, "beta2": 1}


class Written(NamedTuple):
    """A setting that a script writes out, and where."""

    value: object
    place: Location


class ScriptSettings(NamedTuple):
    """What a script says of its one optimizer, in the one vocabulary ("optimizer.lr"); `left_open`: given, but not known."""

    values: Mapping[str, Written]
    left_open: tuple[str, ...]
    framework: str


def optimizer_settings(script: Script) -> ScriptSettings | None:
    """Return the settings of the optimizer that a script builds; None when it builds none, or several."""
    one = _only(script)
    if one is None:
        return None
    values = {"optimizer.name": Written(one.name, script.place(one.node))}
    left_open = []
    for field in FIELDS:
        given = one.given(field)
        known = given is not None and given.sure and not isinstance(given.value, str | tuple) and given.value is not None
        if given is not None and known:
            values[f"optimizer.{field}"] = Written(given.value, script.place(given.node))
        elif one.is_open or field in one.arguments or (field in _BETAS and "betas" in one.arguments):
            left_open.append(f"optimizer.{field}")
    return ScriptSettings(values, tuple(left_open), one.signature.framework)


def changed(script: Script, change: Mapping[str, object]) -> str | None:
    """Return the text of a script with settings of its one optimizer changed; None where that is not surely right.

    A number that is written out is replaced where it stands, and a missing argument is added to the call. The new text is
    read again: it must say what was wanted, and nothing else anew.
    """
    one = _only(script)
    if one is None or one.is_open or not change:
        return None
    edits = []
    for setting, value in change.items():
        group, _, field = setting.partition(".")
        edit = _edit(script, one, field, value) if group == "optimizer" and field in FIELDS else None
        if edit is None:
            return None
        edits.append(edit)
    text = script.text
    for start, stop, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[stop:]
    return text if _says(script, text, change) else None


def _only(script: Script) -> Construction | None:
    found = constructions(script)
    return found[0] if len(found) == 1 else None


def _edit(script: Script, one: Construction, field: str, value: object) -> Edit | None:
    written = _literal(value)
    given = one.given(field)
    if written is None:
        return None
    if given is not None:
        return script.replaced(given.node, written) if _is_literal(given) else None
    if field in one.arguments or (field in _BETAS and "betas" in one.arguments):
        return None
    return _added(script, one, field, written)


def _added(script: Script, one: Construction, field: str, written: str) -> Edit | None:
    """Return the edit that adds an argument after the last one of the call."""
    accepts = one.signature.accepts or frozenset(one.signature.positional)
    name = next((name for name, canonical in CANONICAL.items() if canonical == field and name in accepts), field)
    if field in _BETAS and name not in accepts and "betas" in accepts:
        both = [one.value("beta1"), one.value("beta2")]
        other = both[1 - _BETAS[field]]
        if other is None:
            return None
        pair = [written, written]
        pair[1 - _BETAS[field]] = _literal(other) or ""
        name, written = "betas", f"({', '.join(pair)})"
    if name not in accepts:
        return None
    last = max(
        (*one.node.args, *(k.value for k in one.node.keywords)), key=lambda a: (a.end_lineno, a.end_col_offset), default=None
    )
    if last is None:
        return None
    stop = script.span(last)[1]
    return Edit(stop, stop, f", {name}={written}")


def _is_literal(given: Given) -> bool:
    node = given.node.operand if isinstance(given.node, ast.UnaryOp) else given.node
    return given.sure and isinstance(node, ast.Constant)


def _literal(value: object) -> str | None:
    """Return a number or a switch as Python writes it; None for anything else."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        short = f"{value:.6g}"
        return re.sub(r"e([-+])0*(\d)", lambda m: f"e{m[1].replace('+', '')}{m[2]}", short)
    return None


def _says(script: Script, text: str, change: Mapping[str, object]) -> bool:
    """Return whether the new text says what was wanted of its optimizer, and the same of all else."""
    try:
        after = optimizer_settings(Script(script.file, text))
    except (SyntaxError, ValueError, RecursionError):
        return False
    before = optimizer_settings(script)
    if after is None or before is None:
        return False
    old = {setting: written.value for setting, written in before.values.items()}
    new = {setting: written.value for setting, written in after.values.items()}
    betas = {"optimizer.beta1", "optimizer.beta2"}
    beside = betas if betas & set(change) else set()
    return all(_close(new.get(setting), value) for setting, value in change.items()) and all(
        new.get(setting) == old.get(setting) or setting in {*change, *beside} for setting in {*old, *new}
    )


def _close(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= 1e-5 * abs(other)
    return one == other
