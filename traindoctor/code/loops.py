"""The training loops of a script: the calls that matter, in order, without running it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from traindoctor.code.events import CALLS, TracedEvent, TracedLoop, TrainingLoop, begin
from traindoctor.code.names import HOOKS
from traindoctor.code.script import Script
from traindoctor.errors import UnreadableInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from traindoctor.code.trace import Trace

#: Longer files are generated, and no training script.
MAX_CHARACTERS = 20_000_000


def read_source(path: Path) -> str:
    """Return the text of a script, decoded as its coding cookie or byte-order mark says, line ends as they are.

    Raises: UnreadableInputError when it cannot be read or decoded.
    """
    import io
    import tokenize

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
    script = read_script(source, file)
    if "backward" not in source:
        return []
    if not script.trace.complete:
        raise UnreadableInputError(file, "nested too deeply to be read")
    return loops_that_train(script)


def read_script(source: str, file: str) -> Script:
    """Return a script that stands alone.

    Raises: UnreadableInputError when the text is no Python that can be parsed.
    """
    try:
        if len(source) > MAX_CHARACTERS:
            raise UnreadableInputError(file, "is too long for a training script")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Script(file, source.removeprefix("\ufeff"))
    except SyntaxError as error:
        where = f"{file}:{error.lineno}" if error.lineno else file
        raise UnreadableInputError(where, f"no valid Python: {error.msg}", "check that it runs under Python 3") from error
    except ValueError as error:
        raise UnreadableInputError(file, f"no valid Python: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise UnreadableInputError(file, "nested too deeply to be read") from error


def stretches(script: Script) -> list[TrainingLoop]:
    """Return the loops of a script that train, and the bodies of functions that train without a loop, for a caller to repeat.

    Of helpers in other files only what this script runs in loops of its own.
    """
    found = [loop for loop in script.trace.training if loop.traced is not None and loop.traced.script is script]
    doubt = _doubt_of_file(script.trace)
    bodies = [root for root in script.trace.roots if root.function is not None and _trains(root)]
    return found + [_loop(root, (), script.trace, doubt) for root in bodies if not any(map(_trains, root.inner()))]


def _trains(loop: TracedLoop) -> bool:
    return {"backward", "step"} <= {event.kind for event in loop.flat()}


def loops_that_train(script: Script) -> list[TrainingLoop]:
    """Return the loops of a script, and those of its helpers that it runs, that train: see `training_loops`."""
    trace = script.trace
    found: dict[tuple[str, int, int], TrainingLoop] = {}
    doubt = _doubt_of_file(trace)
    for node, before in (pair for root in trace.roots for pair in _training(root)):
        loop = _loop(node, before, trace, doubt)
        found.setdefault((loop.location.file, loop.location.line, loop.location.column), loop)
    return [found[key] for key in sorted(found)]


def _training(root: TracedLoop) -> Iterator[tuple[TracedLoop, tuple[TracedEvent, ...]]]:
    """Yield the loops under a root that train, each with the events before it."""
    both = list(_with_both(root, ()))
    yield from both
    if not both:
        for item, before in _children(root, ()):
            kinds = {event.kind for event in item.flat()}
            if kinds & {"backward", "step"}:
                yield item, before


def _with_both(node: TracedLoop, before: tuple[TracedEvent, ...]) -> Iterator[tuple[TracedLoop, tuple[TracedEvent, ...]]]:
    nested: list[TracedLoop] = []
    for child, earlier in _children(node, before):
        for loop, events in _with_both(child, earlier):
            nested.append(loop)
            yield loop, events
    own = {event.kind for event in _own(node, nested)}
    if node.node is not None and {"backward", "step"} <= own:
        yield node, before


def _own(node: TracedLoop, nested: list[TracedLoop]) -> Iterator[TracedEvent]:
    """Yield the events of a loop without those of the loops in it that train by themselves."""
    for item in node.items:
        if isinstance(item, TracedEvent):
            yield item
        elif item not in nested:
            yield from _own(item, nested)


def _children(node: TracedLoop, before: tuple[TracedEvent, ...]) -> Iterator[tuple[TracedLoop, tuple[TracedEvent, ...]]]:
    seen = list(before)
    for item in node.items:
        if isinstance(item, TracedLoop):
            yield item, tuple(seen)
        else:
            seen.append(item)


def _loop(node: TracedLoop, before: tuple[TracedEvent, ...], trace: Trace, doubt: str) -> TrainingLoop:
    statement = node.node or node.function
    assert statement is not None, "the module is no loop"
    events = tuple(event for event in node.flat() if event.kind in CALLS)
    before = tuple(event for event in before if event.kind in CALLS)
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
    reasons += _doubts_of_identity(node, events, trace)
    outer = _branch_of(events)
    events = tuple(event.under(event.branch[outer:]) for event in events)
    return TrainingLoop(begin(node.script, statement), events, before, "; ".join(dict.fromkeys(reasons)), node)


def _doubts_of_identity(node: TracedLoop, events: tuple[TracedEvent, ...], trace: Trace) -> Iterator[str]:
    """Yield why the calls that clear gradients may act on more, or on others, than their names say."""
    stepping = {event.target for event in events if event.kind == "step"}
    clearing = {event.target for event in events if event.kind == "zero_grad"}
    for optimizer in sorted(name for name in stepping if name is not None):
        if optimizer in node.bound and all(known.id != optimizer for known in trace.optimizers):
            yield f"{optimizer} is bound anew in the loop"
        if optimizer in clearing or None in clearing:
            continue
        for other in sorted(name for name in clearing if name is not None):
            if trace.overlap(optimizer, other):
                yield f"{other} may hold parameters of {optimizer}"
        if (line := trace.unfollowed) is not None:
            yield f"when the call in line {line} clears gradients is not known"


def _branch_of(events: tuple[TracedEvent, ...]) -> int:
    """Return how many conditions all events share: those around the loop, which hold in each of its iterations."""
    shared = 0
    first = events[0].branch if events else ()
    while shared < len(first) and all(event.branch[: shared + 1] == first[: shared + 1] for event in events):
        shared += 1
    return shared


def _doubt_of_file(trace: Trace) -> str:
    if trace.script.is_test:
        return "a test, no training script"
    if any(hook in script.text for hook in HOOKS for script in trace.scripts):
        return "a hook runs after each gradient or step"
    return ""
