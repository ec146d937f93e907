"""What the walk through a script leaves behind: the calls that matter, in order, by the loop they stand in.

Light, and known to no one but by name: `traindoctor.model` hands `LoopEvent` and `TrainingLoop` on.
"""

from __future__ import annotations

import ast  # noqa: TC003 -- a field of a named tuple
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from traindoctor.mistake import Location  # noqa: TC001 -- likewise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.code.values import FunctionNode, Value

#: The conditions something stands under, from the outside in: (test, value that it must have).
Branch: TypeAlias = tuple[tuple[str, bool], ...]
LoopStatement: TypeAlias = "ast.For | ast.AsyncFor | ast.While"
Kind: TypeAlias = Literal[
    "backward", "step", "zero_grad", "clip", "unscale", "scaler_update", "scheduler_step", "train", "eval", "set_epoch",
    "autocast", "build",
]  # fmt: skip
#: The kinds of events that a TrainingLoop is made of.
CALLS = frozenset({"backward", "step", "zero_grad", "clip", "unscale", "scaler_update", "scheduler_step"})


class LoopEvent(NamedTuple):
    """One call that matters in a training loop.

    `kind`: one of CALLS. `target`: the identity of the optimizer (or model, scheduler) the call acts on, as resolved; None
    when it cannot be told. `certain`: False under a branch that may not be taken in each iteration.
    """

    kind: str
    target: str | None
    location: Location
    certain: bool = True
    branch: Branch = ()


class Loss(NamedTuple):
    """What is differentiated: its expression, the path it goes by, and the path of the scaler that scaled it."""

    node: ast.expr
    id: str | None = None
    scaled: str | None = None


class TracedEvent:
    """One call with where it stands; `code.trace` says what the fields hold for each kind."""

    __slots__ = ("branch", "calls", "kind", "loops", "loss", "node", "script", "target", "thing", "via", "within")

    def __init__(
        self,
        kind: str,
        target: str | None,
        node: ast.AST,
        script: Script,
        *,
        via: ast.AST,
        branch: Branch = (),
        within: frozenset[str] = frozenset(),
        thing: Value = None,
        loss: Loss | None = None,
        loops: tuple[TracedLoop, ...] = (),
        calls: tuple[ast.AST, ...] = (),
    ) -> None:
        self.kind = kind
        self.target = target
        self.node = node
        self.script = script
        self.via = via
        self.branch = branch
        self.within = within
        self.thing = thing
        self.loss = loss
        self.loops = loops
        self.calls = calls

    @property
    def certain(self) -> bool:
        """Whether it stands under no condition."""
        return not self.branch

    @property
    def location(self) -> Location:
        """Where it begins."""
        return begin(self.script, self.node)

    def under(self, branch: Branch) -> TracedEvent:
        """Return the event with other conditions."""
        return TracedEvent(
            self.kind, self.target, self.node, self.script, via=self.via, branch=branch, within=self.within, thing=self.thing,
            loss=self.loss, loops=self.loops, calls=self.calls,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"{self.kind}({self.target}) at {self.location.text}"


class TracedLoop:
    """One loop, or one root of the walk (`node` None), with what happens in one iteration, in order.

    `script`: the file it stands in. `function`: of a root, what was walked; None for the module. `parent`: the loop around
    it. `branch`: the conditions that it stands under itself. `unsure`: why the order in it is not known. `rebuilt`:
    optimizers that are built in it. `bound`: names and attributes that get a new value in it.
    """

    __slots__ = ("bound", "branch", "function", "items", "node", "parent", "rebuilt", "script", "unsure")

    def __init__(
        self,
        node: LoopStatement | None,
        script: Script,
        parent: TracedLoop | None = None,
        function: FunctionNode | None = None,
        items: list[TracedEvent | TracedLoop] | None = None,
        branch: Branch = (),
    ) -> None:
        self.node = node
        self.script = script
        self.parent = parent
        self.branch = branch
        self.function = function
        self.items: list[TracedEvent | TracedLoop] = [] if items is None else items
        self.unsure: list[str] = []
        self.rebuilt: set[str] = set()
        self.bound: set[str] = set()

    def flat(self) -> Iterator[TracedEvent]:
        """Yield the events of one iteration, each nested loop entered once."""
        for item in self.items:
            if isinstance(item, TracedLoop):
                yield from item.flat()
            else:
                yield item

    def own(self) -> Iterator[TracedEvent]:
        """Yield the events that stand in the loop itself and in no loop within it."""
        for item in self.items:
            if isinstance(item, TracedEvent):
                yield item

    def inner(self) -> Iterator[TracedLoop]:
        """Yield the loops within, at any depth, in the order of the walk."""
        for item in self.items:
            if isinstance(item, TracedLoop):
                yield item
                yield from item.inner()


class TrainingLoop(NamedTuple):
    """The ordered events of one iteration of a training loop, and of the code before the loop.

    `why_unsure`: empty when the order is known on every path; else what could not be resolved. `traced`: the loop of the walk.
    """

    location: Location
    events: tuple[LoopEvent | TracedEvent, ...]
    before: tuple[LoopEvent | TracedEvent, ...] = ()
    why_unsure: str = ""
    traced: TracedLoop | None = None


def begin(script: Script, node: ast.AST) -> Location:
    """Return where a node begins."""
    return script.place(node)._replace(end_line=0, end_column=0)
