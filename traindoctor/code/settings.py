"""The settings of the optimizer that a script builds, each with its place, and the edits that change them."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.constructors import constructions, given
from traindoctor.code.script import Script
from traindoctor.mistake import Edit
from traindoctor.optim.signatures import CANONICAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from traindoctor.code.constructors import Construction, Given
    from traindoctor.mistake import Location

#: Settings that constructors take, beside the pair of betas.
FIELDS = ("lr", "beta1", "beta2", "eps", "momentum", "nesterov", "alpha", "weight_decay", "amsgrad", "dampening", "centered")
_BETAS = {"beta1": 0, "beta2": 1}
#: Classes of arguments of Hugging Face's trainers, and their names. Source: transformers, training_args.py; trl, trainer/.
_TRAINERS = ("TrainingArguments", "Seq2SeqTrainingArguments", "SFTConfig", "DPOConfig", "RewardConfig", "GRPOConfig")
_OF_TRAINER = {
    "optimizer.lr": "learning_rate",
    "optimizer.eps": "adam_epsilon",
    "optimizer.beta1": "adam_beta1",
    "optimizer.beta2": "adam_beta2",
    "optimizer.weight_decay": "weight_decay",
    "gradient.clip_norm": "max_grad_norm",
    "gradient.accumulation_steps": "gradient_accumulation_steps",
    "schedule.warmup_steps": "warmup_steps",
}


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


class Rewritten(NamedTuple):
    """The text of a script with settings changed; without one, why there is none."""

    text: str | None
    reason: str = ""


class _NoChangeError(Exception):
    """Why a change is not made."""


def changed(script: Script, change: Mapping[str, object], now: Mapping[str, object] | None = None) -> str | None:
    """Return the text of `rewritten`, None where there is none."""
    return rewritten(script, change, now).text


def rewritten(script: Script, change: Mapping[str, object], now: Mapping[str, object] | None = None) -> Rewritten:
    """Return a script with settings of its one optimizer, or of its one TrainingArguments, changed where that is surely right.

    A number that is written out is replaced where it stands, and a missing argument is added to the call. A default (of an
    option, a parameter, a class of settings) is changed only where it is the value that the run had by `now`: else something
    else set it. The new text is read again: it must say what was wanted, and nothing else anew.
    """
    try:
        return Rewritten(_rewritten(script, change, now or {}))
    except _NoChangeError as error:
        return Rewritten(None, str(error))


def _rewritten(script: Script, change: Mapping[str, object], now: Mapping[str, object]) -> str:
    built = constructions(script)
    trainers = [] if built else _trainers(script)
    if len(built) + len(trainers) != 1:
        n = len(built) or len(trainers)
        raise _NoChangeError(f"{script.file} builds {n} optimizers" if n else f"{script.file} is not seen to build an optimizer")
    wanted = dict(change)
    pair = wanted.pop("optimizer.betas", None)
    if isinstance(pair, list | tuple) and len(pair) == 2:
        both = {"optimizer.beta1": pair[0], "optimizer.beta2": pair[1]}
        wanted |= {s: v for s, v in both.items() if trainers or not _close(built[0].value(s.partition(".")[2]), v)}
    if not wanted:
        raise _NoChangeError("nothing would change")
    if trainers:
        return _of_trainer(script, trainers[0], wanted, now)
    edits = {_edit(script, built[0], setting, wanted, now) for setting in wanted}  # a pair that is added makes one
    text = _made(script.text, edits)
    if not _says(script, text, wanted):
        raise _NoChangeError(f"a change of {script.file} there would not do this alone")
    return text


def _made(text: str, edits: Iterable[Edit]) -> str:
    for start, stop, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[stop:]
    return text


def _only(script: Script) -> Construction | None:
    found = constructions(script)
    return found[0] if len(found) == 1 else None


def _edit(script: Script, one: Construction, setting: str, wanted: Mapping[str, object], now: Mapping[str, object]) -> Edit:
    group, _, field = setting.partition(".")
    value = wanted[setting]
    written = _literal(value)
    if group != "optimizer" or field not in FIELDS:
        raise _NoChangeError(f"`{setting}` is no argument of {one.shown}: {script.file} has to be changed by hand")
    if written is None:
        raise _NoChangeError(f"how {script.file} would spell `{setting}` = {value!r} is not known")
    given = one.given(field)
    if given is not None:
        return _replaced(script, given, setting, written, now)
    if field in one.arguments or (field in _BETAS and "betas" in one.arguments):
        place = script.place(one.arguments[field if field in one.arguments else "betas"]).text
        raise _NoChangeError(f"the value at {place} comes from elsewhere")
    if one.is_open:
        raise _NoChangeError(f"{script.place(one.node).text} gives {one.shown} more than is written there")
    edit = _added(script, one, field, written, wanted)
    if edit is None:
        raise _NoChangeError(f"{one.shown} takes no {field}")
    return edit


def _replaced(script: Script, given: Given, setting: str, written: str, now: Mapping[str, object]) -> Edit:
    """Return the edit that puts a value in the place of a literal."""
    place = script.place(given.node).text
    if not _is_literal(given):
        raise _NoChangeError(f"the value at {place} is worked out there, not written as a number")
    if not given.sure and not _close(now.get(setting), given.value):
        known = f"the run had {now[setting]}" if now.get(setting) is not None else "what the run had is not known"
        raise _NoChangeError(f"{place} holds only the default {given.value}, and {known}: change it where it was given")
    return script.replaced(given.node, written)


def _added(script: Script, one: Construction, field: str, written: str, wanted: Mapping[str, object]) -> Edit | None:
    """Return the edit that adds an argument after the last one of the call; for one of a pair, the pair."""
    accepts = one.signature.accepts or frozenset(one.signature.positional)
    name = next((name for name, canonical in CANONICAL.items() if canonical == field and name in accepts), field)
    if field in _BETAS and name not in accepts and "betas" in accepts:
        pair = [_literal(wanted.get(f"optimizer.{beta}", one.value(beta))) for beta in _BETAS]
        if None in pair:
            return None
        name, written = "betas", f"({pair[0]}, {pair[1]})"
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
    return isinstance(node, ast.Constant)


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
        after = _only(Script(script.file, text))
    except (SyntaxError, ValueError, RecursionError):
        return False
    before = _only(script)
    if after is None or before is None:
        return False
    betas = {"optimizer.beta1", "optimizer.beta2"}
    beside = betas if betas & set(change) else set()
    for field in FIELDS:
        setting = f"optimizer.{field}"
        old, new = (one.given(field) for one in (before, after))
        if setting in change:
            if new is None or not _close(new.value, change[setting]):
                return False
        elif setting not in beside and (old.value if old else None) != (new.value if new else None):
            return False
    return before.name == after.name


# -- the arguments of a trainer ---------------------------------------------------------------------------------------


def _trainers(script: Script) -> list[ast.Call]:
    return [call for name in _TRAINERS for call in script.calls.get(name, ())]


def _of_trainer(script: Script, call: ast.Call, wanted: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Return the text with keyword arguments of TrainingArguments changed or added."""
    edits, names = [], {}
    for setting, value in wanted.items():
        name, written = _OF_TRAINER.get(setting), _literal(value)
        if name is None or written is None:
            raise _NoChangeError(f"no argument of {script.dotted(call.func).rpartition('.')[2]} stands for `{setting}`")
        names[name] = value
        argument = script.argument(call, name)
        if argument is not None:
            found = given(script, argument)
            if found is None:
                raise _NoChangeError(f"the value at {script.place(argument).text} comes from elsewhere")
            edits.append(_replaced(script, found, setting, written, now))
        elif script.open_ended(call) or not call.keywords:
            raise _NoChangeError(f"{script.place(call).text} is given more than is written there")
        else:
            stop = script.span(max((k.value for k in call.keywords), key=lambda v: (v.end_lineno, v.end_col_offset)))[1]
            edits.append(Edit(stop, stop, f", {name}={written}"))
    text = _made(script.text, edits)
    after = Script(script.file, text)
    (anew,) = _trainers(after)
    for name in {*(k.arg for k in call.keywords if k.arg), *names}:
        read, was = after.constant(after.argument(anew, name)), script.constant(script.argument(call, name))
        if not (_close(read, names[name]) if name in names else read == was):
            raise _NoChangeError(f"a change of {script.file} there would not do this alone")
    return text


def _close(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= 1e-5 * abs(other)
    return one == other
