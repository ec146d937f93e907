"""A LightningModule optimises by hand in training_step while Lightning does so itself.

## What it looks like
An exception of Lightning at the first `manual_backward`, or two backward passes and two steps for each batch.

## Why it happens
`automatic_optimization` is True unless the module says otherwise; Lightning then calls `zero_grad`, `backward` and `step` around
`training_step`.

## When it is wrong
A base class in another package may have set the flag; where a module has such a base, nothing is said.

## What repairs it
`self.automatic_optimization = False` in `__init__`, or none of the calls by hand.

## References
PyTorch Lightning documentation, "Manual Optimization" (LightningModule.automatic_optimization, manual_backward, optimizers).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.names import dotted, last_of
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD315",
    name="manual-steps-in-automatic-optimization",
    summary="training_step optimises by hand while Lightning does so too",
    explanation=__doc__,
)


_MODULES = ("LightningModule", "LightningLite")
_KNOWN = frozenset({"object", "ABC", "Generic", "Module"})


@CAUSE.in_script("LightningModule", "training_step", "backward(|.step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the first call by hand in each training_step of a module that leaves the flag alone."""
    classes = {node.name: node for node in script.nodes.get(ast.ClassDef, ()) if isinstance(node, ast.ClassDef)}
    for node in classes.values():
        family = _family(node, classes)
        if family is None or any(_sets_flag(one) for one in family):
            continue
        step = next((s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "training_step"), None)
        calls = [] if step is None else [n for n in ast.walk(step) if isinstance(n, ast.Call) and _by_hand(script, n)]
        if calls:
            first = min(calls, key=lambda call: (call.lineno, call.col_offset))
            yield Mistake(
                script.place(first),
                f"`{script.source(first)}` optimises by hand, but automatic_optimization is True. Lightning steps "
                f"around training_step too.",
                "Set self.automatic_optimization = False in __init__, or leave the calls to Lightning",
                repair=_flag(script, node, calls),
            )


def _family(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> list[ast.ClassDef] | None:
    """Return a LightningModule and its bases in the file; None for any other class, and one with a base that is not known."""
    found, pending, lightning = [], [node], False
    while pending:
        current = pending.pop()
        if current in found:
            continue
        found.append(current)
        for base in current.bases:
            name = (dotted(base) or [""])[-1]
            if name in classes:
                pending.append(classes[name])
            elif name in _MODULES:
                lightning = True
            elif name not in _KNOWN:
                return None
    return found if lightning else None


def _sets_flag(node: ast.ClassDef) -> bool:
    """Return whether a class sets automatic_optimization to anything but True, or defines it."""
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef) and part.name in ("automatic_optimization", "optimizer_step", "backward"):
            return True
        if isinstance(part, ast.Assign | ast.AnnAssign):
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            is_true = isinstance(part.value, ast.Constant) and part.value.value is True
            if any(last_of(target) == "automatic_optimization" for target in targets) and not is_true:
                return True
    return False


def _by_hand(script: Script, call: ast.Call) -> bool:
    """Return whether a call is `self.manual_backward`, `loss.backward`, or `step` or `zero_grad` of `self.optimizers()`."""
    function = call.func
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr == "manual_backward":
        return True
    if function.attr == "backward":
        return "loss" in last_of(function.value).lower()
    if function.attr not in ("step", "zero_grad"):
        return False
    for value in (function.value, *script.bound(function.value)):
        if isinstance(value, ast.Call) and last_of(value.func) == "optimizers":
            return True
    return _unpacked(script, function.value)


def _unpacked(script: Script, node: ast.expr) -> bool:
    """Return whether a name is one of those in `a, b = self.optimizers()`."""
    function = script.function(node)
    if not isinstance(node, ast.Name) or function is None:
        return False
    unpacked = (
        name
        for part in ast.walk(function)
        if isinstance(part, ast.Assign) and isinstance(part.value, ast.Call) and last_of(part.value.func) == "optimizers"
        for target in part.targets
        for name in ast.walk(target)
    )
    return any(isinstance(name, ast.Name) and name.id == node.id for name in unpacked)


def _flag(script: Script, node: ast.ClassDef, calls: list[ast.Call]) -> Repair | None:
    """Return the repair where training_step does all by hand: the flag, after the constructor of the base."""
    names = {last_of(call.func) for call in calls}
    if "step" not in names or not names & {"manual_backward", "backward"}:
        return None
    init = next((s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    for statement in init.body if init is not None else ():
        if isinstance(statement, ast.Expr) and script.source(statement).startswith("super(") and script.line_span(statement):
            stop = (script.line_span(statement) or (0, 0))[1]
            line = f"{script.indent(statement)}self.automatic_optimization = False{script.newline}"
            return Repair("Switch automatic optimisation off", (Edit(stop, stop, line),))
    return None


_TOP = "import lightning as L\nclass M(L.LightningModule):\n"
_INIT = "    def __init__(self):\n        super().__init__()\n"
_STEP = "        loss = self.net(batch)\n        opt.zero_grad()\n        self.manual_backward(loss)\n        opt.step()\n"
_OPT = "    def training_step(self, batch, i):\n        opt = self.optimizers()\n"
CAUSE.valid_code = (
    Sample("flag set", _TOP + _INIT + "        self.automatic_optimization = False\n" + _OPT + _STEP),
    Sample("flag of the class", _TOP + "    automatic_optimization = False\n" + _OPT + _STEP),
    Sample(
        "property",
        _TOP + "    @property\n    def automatic_optimization(self):\n        return False\n" + _OPT + _STEP,
    ),
    Sample(
        "flag of a base in the file",
        "import lightning as L\nclass Base(L.LightningModule):\n"
        + _INIT
        + "        self.automatic_optimization = False\nclass M(Base):\n"
        + _OPT
        + _STEP,
    ),
    Sample(
        "base of another package",
        "import mine\nfrom lightning import LightningModule\nclass M(mine.Base, LightningModule):\n" + _OPT + _STEP,
    ),
    Sample(
        "automatic", _TOP + "    def training_step(self, batch, i):\n        return self.net(batch)  # no backward(), no .step(\n"
    ),
    Sample(
        "no Lightning",
        "class M:\n    # not a LightningModule\n    def training_step(self, batch):\n        loss = self.net(batch)\n"
        "        loss.backward()\n",
    ),
    Sample(
        "a schedule of its own",
        _TOP + "    def training_step(self, batch, i):\n        self.temperature.step()\n        return self.net(batch)\n",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "by hand",
        _TOP + _INIT + _OPT + _STEP.replace("opt.zero_grad()", "opt.zero_grad()  # <-"),
        fixed=_TOP
        + _INIT
        + "        self.automatic_optimization = False\n"
        + _OPT
        + _STEP.replace("opt.zero_grad()", "opt.zero_grad()  # <-"),
    ),
    Sample(
        "flag set to True",
        _TOP
        + _INIT
        + "        self.automatic_optimization = True\n"
        + _OPT
        + _STEP.replace("opt.zero_grad()", "opt.zero_grad()  # <-"),
    ),
    Sample(
        "plain backward, two optimizers",
        _TOP + "    def training_step(self, batch, i):\n        a, b = self.optimizers()\n        loss = self.net(batch)\n"
        "        a.zero_grad()  # <-\n        loss.backward()\n        a.step()\n",
    ),
)
