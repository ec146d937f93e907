"""What a name of a training script can stand for in the walk: optimizers, schedulers, scalers, functions, classes, modules."""

from __future__ import annotations

import ast  # noqa: TC003 -- of a type alias
from typing import TYPE_CHECKING, TypeAlias

from traindoctor.code.names import OPT_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from traindoctor.code.events import TracedLoop
    from traindoctor.code.script import Script

FunctionNode: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda"


class Thing:
    """Anything that is no optimizer: `role` "scheduler", "scaler", "accelerator", "engine", "parameters" or "".

    `id`: the path it goes by, None for a loop variable, which is another thing in each iteration. `holds`: the models
    or tensors whose parameters it iterates over. `node`, `script`: the call that built it, where that is known.
    """

    __slots__ = ("holds", "id", "node", "role", "script")

    def __init__(
        self,
        role: str = "",
        path: str | None = None,
        holds: frozenset[str] | None = None,
        node: ast.Call | None = None,
        script: Script | None = None,
    ) -> None:
        self.role = role
        self.id = path
        self.holds = holds
        self.node = node
        self.script = script


class Scheduler(Thing):
    """A scheduler of the learning rate: the name of its constructor, the call, and the optimizer it was given, if known."""

    __slots__ = ("born", "constructor", "optimizer")

    def __init__(
        self, constructor: str, node: ast.Call, script: Script, optimizer: Optimizer | None, born: tuple[TracedLoop, ...]
    ) -> None:
        super().__init__("scheduler", node=node, script=script)
        self.constructor = constructor
        self.optimizer = optimizer
        self.born = born


class Scaler(Thing):
    """A GradScaler: the call that built it, and whether it is on: None where that depends on a value that is not known."""

    __slots__ = ("born", "enabled")

    def __init__(self, node: ast.Call, script: Script, enabled: bool | None, born: tuple[TracedLoop, ...]) -> None:
        super().__init__("scaler", node=node, script=script)
        self.enabled = enabled
        self.born = born


class Optimizer:
    """An optimizer: its constructor, the name it goes by, what it holds (None: not known), the loops it is built in.

    `node`, `script`: the call that built it. `prepared`: the call that gave it to an accelerator. `doubt`: why it is not known
    what its methods do.
    """

    __slots__ = ("born", "constructor", "doubt", "holds", "id", "node", "prepared", "script")

    def __init__(
        self,
        constructor: str,
        node: ast.Call,
        script: Script,
        holds: frozenset[str] | None = None,
        born: tuple[TracedLoop, ...] = (),
        doubt: str = "",
    ) -> None:
        self.constructor = constructor
        self.node = node
        self.script = script
        self.holds = holds
        self.born = born
        self.doubt = doubt
        self.id: str | None = None
        self.prepared: ast.Call | None = None


class Function:
    """A function of a script with the names it sees, the object it is a method of, and the class that has it."""

    __slots__ = ("env", "node", "of", "owner", "script")

    def __init__(
        self, node: FunctionNode, script: Script, env: Env, owner: Instance | None = None, of: Class | None = None
    ) -> None:
        self.node = node
        self.script = script
        self.env = env
        self.owner = owner
        self.of = of


class Class:
    """A class of a script."""

    __slots__ = ("env", "node", "script")

    def __init__(self, node: ast.ClassDef, script: Script, env: Env) -> None:
        self.node = node
        self.script = script
        self.env = env


class Instance:
    """An object of a class of a script; `node`: the call that built it."""

    __slots__ = ("attributes", "id", "node", "of")

    def __init__(self, of: Class, path: str | None = None, node: ast.Call | None = None) -> None:
        self.of = of
        self.id = path
        self.node = node
        self.attributes: dict[str, Value] = {}


class Group:
    """A tuple, list or dictionary whose elements are known, by their keys; None for one that stands for many."""

    __slots__ = ("items", "keys")

    def __init__(self, items: Iterable[Value], keys: Sequence[object] | None = None) -> None:
        self.items = tuple(items)
        self.keys = tuple(range(len(self.items))) if keys is None else tuple(keys)

    def at(self, key: object) -> Value:
        """Return the element at a key, or at an index from the end; None where there is none."""
        wanted = key + len(self.items) if isinstance(key, int) and key < 0 else key
        named = ((known, item) for known, item in zip(self.keys, self.items, strict=True) if known is not None)
        return next((item for known, item in named if known == wanted), None)

    def add(self, items: Sequence[Value]) -> None:
        """Take in further elements, each for as many as may be added there."""
        self.items += tuple(items)
        self.keys += (None,) * len(items)


class Module:
    """A module that is imported: its dotted name as the importer writes it."""

    __slots__ = ("importer", "name")

    def __init__(self, name: str, importer: Script) -> None:
        self.name = name
        self.importer = importer


Value: TypeAlias = Thing | Optimizer | Function | Class | Instance | Group | Module | None


class Env:
    """The names that a function sees, and the script they stand in."""

    __slots__ = ("names", "parent", "script")

    def __init__(self, script: Script, names: dict[str, Value] | None = None, parent: Env | None = None) -> None:
        self.script = script
        self.names: dict[str, Value] = {} if names is None else names
        self.parent = parent

    def find(self, name: str) -> tuple[bool, Value]:
        """Return whether the name is bound, and to what."""
        env: Env | None = self
        while env is not None:
            if name in env.names:
                return True, env.names[name]
            env = env.parent
        return False, None


def carries_optimizer(value: Value, depth: int = 2) -> bool:
    """Return whether a value is an optimizer, or a group or object that has one."""
    if isinstance(value, Optimizer):
        return True
    if depth and isinstance(value, Group):
        return any(carries_optimizer(item, depth - 1) for item in value.items)
    if depth and isinstance(value, Instance):
        return any(carries_optimizer(item, depth - 1) or OPT_NAME.search(name) for name, item in value.attributes.items())
    return False
