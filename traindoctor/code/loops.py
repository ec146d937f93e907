"""The training loops of a script: the calls that matter, in order, without running it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.code.trace import HOOKS, LoopNode, TracedEvent, Walk
from traindoctor.errors import UnreadableInputError
from traindoctor.model import Location, TrainingLoop

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Longer files are generated, and no training script.
MAX_CHARACTERS = 20_000_000


def read_source(path: Path) -> str:
    """Return the text of a script, decoded as its coding cookie or byte-order mark says, line ends as they are.

    Raises: UnreadableInputError when it cannot be read or decoded.
    """
    try:
        data = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except OSError as error:
        raise UnreadableInputError(str(path), error.strerror or "cannot be read") from error
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise UnreadableInputError(str(path), "is no text in the encoding it declares", "save it as UTF-8") from error


def training_loops(source: str, file: str) -> list[TrainingLoop]:
    """Return the loops that train, in the order of the file: a backward pass or a step of an optimizer in each iteration.

    A loop that only repeats a loop that trains (over epochs) is not one; the zero_grad in it is in `before`.

    Raises: UnreadableInputError when the text is no Python that can be parsed.
    """
    walked = walk(source, file)
    if walked is None:
        return []
    found: dict[tuple[int, int], TrainingLoop] = {}
    doubt = _doubt_of_file(source, file)
    for node, before in (pair for root in walked.roots for pair in _training(root)):
        loop = _loop(node, before, walked, doubt)
        found.setdefault((loop.location.line, loop.location.column), loop)
    return [found[key] for key in sorted(found)]


def walk(source: str, file: str) -> Walk | None:
    """Return the walk through a script, its events by loop; None when no gradients are computed in it.

    Raises: UnreadableInputError as `training_loops` does.
    """
    try:
        if len(source) > MAX_CHARACTERS:
            raise UnreadableInputError(file, "is too long for a training script")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source.removeprefix("\ufeff"))
        if "backward" not in source:
            return None
        walked = Walk(tree, source, file)
        walked.run()
        return walked
    except SyntaxError as error:
        where = f"{file}:{error.lineno}" if error.lineno else file
        raise UnreadableInputError(where, f"no valid Python: {error.msg}", "check that it runs under Python 3") from error
    except ValueError as error:
        raise UnreadableInputError(file, f"no valid Python: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise UnreadableInputError(file, "nested too deeply to be read") from error


def _training(root: LoopNode) -> Iterator[tuple[LoopNode, tuple[TracedEvent, ...]]]:
    """Yield the loops under a root that train, each with the events before it."""
    both = list(_with_both(root, ()))
    yield from both
    if not both:
        for item, before in _children(root, ()):
            kinds = {event.kind for event in item.flat()}
            if kinds & {"backward", "step"}:
                yield item, before


def _with_both(node: LoopNode, before: tuple[TracedEvent, ...]) -> Iterator[tuple[LoopNode, tuple[TracedEvent, ...]]]:
    nested: list[LoopNode] = []
    for child, earlier in _children(node, before):
        for loop, events in _with_both(child, earlier):
            nested.append(loop)
            yield loop, events
    own = {event.kind for event in _own(node, nested)}
    if node.node is not None and {"backward", "step"} <= own:
        yield node, before


def _own(node: LoopNode, nested: list[LoopNode]) -> Iterator[TracedEvent]:
    """Yield the events of a loop without those of the loops in it that train by themselves."""
    for item in node.items:
        if isinstance(item, TracedEvent):
            yield item
        elif item not in nested:
            yield from _own(item, nested)


def _children(node: LoopNode, before: tuple[TracedEvent, ...]) -> Iterator[tuple[LoopNode, tuple[TracedEvent, ...]]]:
    seen = list(before)
    for item in node.items:
        if isinstance(item, LoopNode):
            yield item, tuple(seen)
        else:
            seen.append(item)


def _loop(node: LoopNode, before: tuple[TracedEvent, ...], walked: Walk, doubt: str) -> TrainingLoop:
    assert node.node is not None, "a root is no loop"
    events = tuple(node.flat())
    kinds = {event.kind for event in events}
    reasons = list(node.unsure)
    if doubt:
        reasons.append(doubt)
    if "step" not in kinds:
        reasons.append("no step of an optimizer in the loop")
    if "backward" not in kinds:
        reasons.append("no backward pass in the loop")
    if any(event.kind == "step" and event.target is None for event in events):
        reasons.append("which optimizer steps is not known")
    if any(event.kind == "step" and event.target in node.rebuilt for event in events):
        reasons.append("the optimizer is built in the loop")
    reasons += _doubts_of_identity(node, events, walked)
    location = Location(walked.file, node.node.lineno, node.node.col_offset + 1)
    outer = _branch_of(events)
    events = tuple(_relative(event, outer) for event in events)
    return TrainingLoop(location, events, before, "; ".join(dict.fromkeys(reasons)))


def _doubts_of_identity(node: LoopNode, events: tuple[TracedEvent, ...], walked: Walk) -> Iterator[str]:
    """Yield why the calls that clear gradients may act on more, or on others, than their names say."""
    stepping = {event.target for event in events if event.kind == "step"}
    clearing = {event.target for event in events if event.kind == "zero_grad"}
    for optimizer in sorted(name for name in stepping if name is not None):
        if optimizer in node.bound and all(known.id != optimizer for known in walked.optimizers):
            yield f"{optimizer} is bound anew in the loop"
        if optimizer in clearing or None in clearing:
            continue
        for other in sorted(name for name in clearing if name is not None):
            if walked.overlap(optimizer, other):
                yield f"{other} may hold parameters of {optimizer}"
        if (line := walked.unfollowed) is not None:
            yield f"when the call in line {line} clears gradients is not known"


def _branch_of(events: tuple[TracedEvent, ...]) -> int:
    """Return how many conditions all events share: those around the loop, which hold in each of its iterations."""
    shared = 0
    first = events[0].branch if events else ()
    while shared < len(first) and all(event.branch[: shared + 1] == first[: shared + 1] for event in events):
        shared += 1
    return shared


def _relative(event: TracedEvent, outer: int) -> TracedEvent:
    branch = event.branch[outer:]
    return TracedEvent(event.kind, event.target, event.location, not branch, branch)


def _doubt_of_file(source: str, file: str) -> str:
    name = Path(file).name
    if re.match(r"test_.*\.py$|.*_test\.py$", name):
        return "a test, no training script"
    if any(hook in source for hook in HOOKS):
        return "a hook runs after each gradient or step"
    return ""
