"""Where a script trains: each backward pass with its step, its clearing call, its loops and what was built for it.

Found by names and shapes alone, so that the places where defects are planted do not depend on the checker under test.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cached_property

from source import FUNCTIONS, LOOPS, Source, dotted, keyword, last

OPTIMIZERS = {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax", "Adadelta"}
ADAMS = {"Adam", "AdamW", "NAdam", "RAdam", "Adamax"}
SCHEDULERS = {
    "StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "LambdaLR", "LinearLR", "PolynomialLR", "OneCycleLR",
    "ReduceLROnPlateau", "CosineAnnealingWarmRestarts", "get_linear_schedule_with_warmup", "get_cosine_schedule_with_warmup",
}  # fmt: skip
FUNCTIONAL_LOSSES = {
    "cross_entropy": "CE", "nll_loss": "NLL", "binary_cross_entropy_with_logits": "BCEL", "binary_cross_entropy": "BCE",
    "mse_loss": "MSE", "l1_loss": "L1", "smooth_l1_loss": "L1",
}  # fmt: skip
LOSS_CLASSES = {
    "CrossEntropyLoss": "CE", "NLLLoss": "NLL", "BCEWithLogitsLoss": "BCEL", "BCELoss": "BCE", "MSELoss": "MSE", "L1Loss": "L1",
    "SmoothL1Loss": "L1",
}  # fmt: skip


@dataclass(frozen=True)
class Built:
    """A call that builds something and the name it is kept under."""

    name: str
    kind: str
    call: ast.Call
    statement: ast.stmt


@dataclass
class Site:
    """One backward pass that an optimizer follows up, with the statements that belong to it.

    `loop` is the innermost loop around it, `outer` the next; in a helper without a loop, `loop` is the function.
    """

    optimizer: str
    backward: ast.stmt
    step: ast.stmt
    loop: ast.AST
    zeros: list[ast.stmt] = field(default_factory=list)
    outer: ast.AST | None = None
    scaler: str = ""
    loss: str = ""
    built: Built | None = None

    @property
    def order(self) -> list[ast.stmt]:
        """The statements whose order makes the update right."""
        return [*self.zeros, self.backward, self.step]


class Script(Source):
    """A source with its training sites, within one function of it or everywhere."""

    def __init__(self, text: str, function: str = "") -> None:
        super().__init__(text)
        self.region = self.tree if not function else self._named(function)

    def _named(self, function: str) -> ast.AST:
        """The function or method of a dotted name."""
        here: ast.AST = self.tree
        for part in function.split("."):
            here = next(n for n in ast.walk(here) if isinstance(n, (*FUNCTIONS, ast.ClassDef)) and n.name == part)
        return here

    @cached_property
    def calls(self) -> list[ast.Call]:
        """All calls of the file, in the order of the text."""
        return [n for n in self.nodes if isinstance(n, ast.Call)]

    @cached_property
    def statements(self) -> list[ast.stmt]:
        """The statements of the region, in the order of the text."""
        inside = set(ast.walk(self.region))
        return [n for n in self.nodes if isinstance(n, ast.stmt) and n in inside]

    def bare(self, method: str) -> list[tuple[ast.stmt, ast.Call]]:
        """The statements of the region that are (or assign) a call of the method, each alone on its lines."""
        found = []
        for s in self.statements:
            called = s.value.func if isinstance(s, (ast.Expr, ast.Assign)) and isinstance(s.value, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr == method:
                found.append((s, s.value))
        return [(s, c) for s, c in found if self.alone_on_its_lines(s)]

    def built(self, kinds: set[str] | dict[str, str]) -> list[Built]:
        """The assignments, anywhere in the file, of calls whose name is one of the kinds."""
        found = []
        for s in self.nodes:
            if isinstance(s, ast.Assign) and len(s.targets) == 1 and dotted(s.targets[0]):
                call = s.value
                while isinstance(call, ast.Call) and last(call.func) in {"cuda", "to"} and isinstance(call.func, ast.Attribute):
                    call = call.func.value
                if isinstance(call, ast.Call) and last(call.func) in kinds:
                    found.append(Built(dotted(s.targets[0]), last(call.func), call, s))
        return found

    @cached_property
    def optimizers(self) -> list[Built]:
        """The optimizers built in the file."""
        return self.built(OPTIMIZERS)

    @cached_property
    def schedulers(self) -> list[Built]:
        """The schedulers built in the file."""
        return self.built(SCHEDULERS)

    @cached_property
    def scalers(self) -> list[Built]:
        """The gradient scalers built in the file."""
        return self.built({"GradScaler"})

    @cached_property
    def losses(self) -> dict[str, str]:
        """The kind of each loss object of the file: `criterion` -> `CE`."""
        return {b.name: LOSS_CLASSES[b.kind] for b in self.built(LOSS_CLASSES)}

    def loss_kind(self, call: ast.Call) -> str:
        """The kind of loss that a call computes, `''` where it is none that is known."""
        if last(call.func) in FUNCTIONAL_LOSSES and dotted(call.func).split(".")[0] in {
            "F",
            "torch",
            "nn",
            "functional",
            "cross_entropy",
        }:
            return FUNCTIONAL_LOSSES[last(call.func)]
        return self.losses.get(dotted(call.func), "")

    def loss_calls(self, kind: str) -> list[tuple[ast.Call, ast.stmt]]:
        """The calls of a loss of one kind in training loops of the region: two arguments, the loss goes backward there."""
        loops = {site.loop for site in self.sites}
        found = []
        for call in self.calls:
            if len(call.args) >= 2 and self.loss_kind(call) == kind and loops & set(self.above(call)):
                statement = self.statement(call)
                if isinstance(statement, ast.Assign) and any(
                    site.loss in {dotted(t) for t in statement.targets} for site in self.sites if site.loss
                ):
                    found.append((call, statement))
        return found

    def _is_optimizer(self, name: str) -> bool:
        known = {b.name for b in self.optimizers}
        return name in known or bool(re.search(r"opt", name.split(".")[-1], re.IGNORECASE) and "sched" not in name)

    @cached_property
    def sites(self) -> list[Site]:
        """The training sites of the region."""
        scalers = {b.name for b in self.scalers} | {"scaler", "self.scaler"}
        steps: list[tuple[ast.stmt, str, str]] = []
        for s, call in self.bare("step"):
            receiver = dotted(call.func.value)  # type: ignore[attr-defined]
            if receiver in scalers and call.args:
                steps.append((s, dotted(call.args[0]), receiver))
            elif receiver and self._is_optimizer(receiver) and not call.args:
                steps.append((s, receiver, ""))
        zeros = [(s, dotted(c.func.value)) for s, c in self.bare("zero_grad")]  # type: ignore[attr-defined]
        found = []
        for s, call in self.bare("backward"):
            loops = self.loops(s) or self._helper(s)
            if not loops:
                continue
            after = [
                (step, name, scaler) for step, name, scaler in steps
                if step.lineno > s.lineno and loops[-1] in self.above(step) and self.function(step) is self.function(s)
            ]  # fmt: skip
            if not after:
                continue
            step, name, scaler = after[0]
            built = next((b for b in self.optimizers if b.name == name), None)
            owner = dotted(built.call.args[0].func.value) if built and built.call.args and self._parameters_of(built) else None
            its = [z for z, receiver in zeros if loops[-1] in self.above(z) and receiver in {name, owner}]
            if not its:
                continue
            if its[-1] is not its[0] and not any(self.block(z) is self.block(s) for z in its):
                continue
            found.append(
                Site(name, s, step, loops[0], its, loops[1] if len(loops) > 1 else None, scaler, self._loss_name(call), built)
            )
        return found

    def _helper(self, statement: ast.stmt) -> list[ast.AST]:
        """The function around a statement that stands in no loop of its own, if one update is what it is there for."""
        function = self.function(statement)
        named = isinstance(function, FUNCTIONS) and function.name not in {"closure", "training_step"}
        return [function] if named else []

    @staticmethod
    def _parameters_of(built: Built) -> bool:
        argument = built.call.args[0]
        return isinstance(argument, ast.Call) and last(argument.func) == "parameters"

    @staticmethod
    def _loss_name(call: ast.Call) -> str:
        """The name of the loss that goes backward: `loss` of `loss.backward()` and of `scaler.scale(loss).backward()`."""
        receiver = call.func.value  # type: ignore[attr-defined]
        if isinstance(receiver, ast.Call):
            return dotted(receiver.args[0]) if receiver.args else ""
        return (
            dotted(call.args[0])
            if call.args and dotted(receiver) in {"accelerator", "self.accelerator", "fabric", "self.fabric"}
            else dotted(receiver)
        )

    def model_of(self, built: Built) -> str:
        """The model whose parameters an optimizer was given, `''` where the argument has another form."""
        if built.call.args and self._parameters_of(built):
            return dotted(built.call.args[0].func.value)  # type: ignore[attr-defined]
        return ""


def positional_or_keyword(call: ast.Call, index: int, name: str) -> ast.expr | None:
    """The argument of a call that stands at a place or under a name."""
    found = keyword(call, name)
    return found.value if found else call.args[index] if len(call.args) > index else None


def is_epoch_loop(loop: ast.AST, source: Source) -> bool:
    """Whether a loop runs over epochs, by the name of its variable or of its bound."""
    return isinstance(loop, LOOPS) and "epoch" in source.text[slice(*source.span(loop))].split("\n")[0].lower()
