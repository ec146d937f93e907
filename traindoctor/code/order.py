"""What the order of the calls in a training loop proves about its gradients, and the edits that put it right.

For each optimizer that steps, every path through the loop is followed, again and again until nothing new is reached, so
that a `zero_grad` at the end of the body counts for the next backward pass. A function without a loop is followed once,
whatever its caller did before.
"""

from __future__ import annotations

import ast
import re
from itertools import product
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from traindoctor.code.edits import applied, line_before, moved_after, moved_before, plain_statement, side_by_side
from traindoctor.code.events import TracedEvent
from traindoctor.code.loops import read_script, stretches
from traindoctor.code.names import last_of, optimizes_manually
from traindoctor.errors import UnreadableInputError
from traindoctor.mistake import Repair
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from traindoctor.code.events import LoopEvent, TrainingLoop
    from traindoctor.code.script import Script
    from traindoctor.mistake import Location

    Event: TypeAlias = LoopEvent | TracedEvent

#: Conditions in one loop whose combinations are all followed; above it nothing is proven.
MAX_CONDITIONS = 8
#: The calls that change what a gradient is worth, or look at it.
GRADIENT = ("backward", "step", "zero_grad", "clip")
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
#: Conditions that hold again and again: a counter that comes round, gradients that are finite.
_RETURNS = lazy(
    r"%|finite|isnan|isinf|sync_gradients|update_grad|-last_|accumulating|isnotNone"
    r"|(^|\.)(args|cfg|config|conf|opts?|hps?|hparams|flags)(\.|\[)",
    re.IGNORECASE,
)
#: Conditions that hold where something went wrong.
_RESCUES = lazy(r"^except at line \d+ is True|finite|isnan|isinf")


class Wrong(NamedTuple):
    """A call that stands in the wrong place, or lacks its counterpart; `other`: the call it is to be seen beside."""

    loop: TrainingLoop
    optimizer: str
    event: Event
    other: Event


# -- what is proven ---------------------------------------------------------------------------------------------------


def missing_zero_grad(loop: TrainingLoop) -> Location | None:
    """Return the backward pass whose gradients no path clears before the next one; None when that is not proven."""
    return next((wrong.event.location for wrong in uncleared(loop)), None)


def zero_grad_between(loop: TrainingLoop) -> Location | None:
    """Return the call that clears the gradients after the backward pass and before every step of their optimizer."""
    return next((wrong.event.location for wrong in _cleared(loop)), None)


def clears_correctly(loop: TrainingLoop) -> bool:
    """Return whether on every path each step of each optimizer sees gradients, and none that an earlier step used."""
    optimizers = _stepping(loop)
    if loop.why_unsure or not optimizers:
        return False
    met = [_at_steps(loop, optimizer) for optimizer in optimizers]
    return all(states is not None and states and states <= {"entry", "fresh"} for states in met)


def uncleared(loop: TrainingLoop) -> Iterator[Wrong]:
    """Yield for each optimizer whose gradients no path clears: the backward pass, and the step."""
    if loop.why_unsure or _is_function(loop):
        return
    for optimizer in _stepping(loop):
        clearing = [e for e in loop.events if e.kind == "zero_grad" and e.target in (optimizer, None)]
        clearing = [e for e in clearing if not any(_RESCUES.search(f"{key} is {value}") for key, value in e.branch)]
        if any(e.target == optimizer or not _spares(loop, e) for e in clearing):
            continue
        if _steps_again(loop, optimizer):
            step = next(e for e in loop.events if e.kind == "step" and e.target == optimizer)
            yield Wrong(loop, optimizer, _backward_before(loop.events, optimizer), step)


def _spares(loop: TrainingLoop, clearing: Event) -> bool:
    """Return whether a call that clears what is not known stands between the one optimizer's pass and its step.

    It cannot clear all that the optimizer holds, or no step would see a gradient: a layer is frozen like that.
    """
    if len(_stepping(loop)) != 1:
        return False
    at = _index(loop, clearing)
    earlier = next((e.kind for e in reversed(loop.events[:at]) if e.kind in ("backward", "step")), "")
    later = next((e.kind for e in loop.events[at + 1 :] if e.kind in ("backward", "step")), "")
    return earlier == "backward" and later == "step"


def of_another(wrong: Wrong) -> Event | None:
    """Return the call that clears another optimizer where the gradients of this one, which nothing clears, had to be."""
    events = wrong.loop.events
    for event in reversed(events[: _index(wrong.loop, wrong.event)]):
        if event.kind == "step":
            return None
        if event.kind == "zero_grad":
            return event if _names_it(event) and not _is_needed(wrong.loop, event) else None
    return None


def _is_needed(loop: TrainingLoop, clearing: Event) -> bool:
    """Return whether the optimizer that a call clears is not cleared yet, and steps on the next backward pass."""
    at = _index(loop, clearing)
    earlier = next((e for e in reversed(loop.events[:at]) if e.kind in ("step", "backward", "zero_grad")), None)
    if earlier is not None and (earlier.kind, earlier.target) == ("zero_grad", clearing.target):
        return False
    passes = 0
    for event in loop.events[at + 1 :]:
        passes += event.kind == "backward"
        if event.kind == "step" and event.target == clearing.target:
            return passes == 1
        if passes and event.kind == "zero_grad":
            return False
    return False


def _names_it(event: Event) -> bool:
    """Return whether a call clears through the optimizer itself, and not through its model."""
    call = event.node if isinstance(event, TracedEvent) else None
    if event.target is None or not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    return last_of(call.func.value) == event.target.rpartition(".")[2]


def cleared_late(loop: TrainingLoop) -> Iterator[Wrong]:
    """Yield for each optimizer that steps on nothing: the call that clears after the backward pass, and the step."""
    for wrong in _cleared(loop):
        if _stands_late(wrong):
            yield wrong


def stepped_early(loop: TrainingLoop) -> Iterator[Wrong]:
    """Yield for each optimizer that steps on nothing: the step that comes before the backward pass, and that pass."""
    for wrong in _cleared(loop, or_entry=True):
        if not _stands_late(wrong):
            later = loop.events[_index(loop, wrong.other) + 1 :]
            following = next((e for e in later if e.kind == "backward" or (e.kind == "zero_grad" and e.certain)), None)
            # A pass after another optimizer was cleared is that one's.
            if following is not None and (following.kind == "backward" or following.target == wrong.optimizer):
                following = next((e for e in later if e.kind == "backward"), None)
            if following is not None and following.kind == "backward":
                yield Wrong(loop, wrong.optimizer, wrong.other, following)


def clipped_idle(loop: TrainingLoop) -> Iterator[Wrong]:
    """Yield each call that clips gradients which every step has seen already, or which are cleared: the clip, and the step."""
    if loop.why_unsure:
        return
    optimizers = _stepping(loop)
    for index, clip in enumerate(loop.events):
        optimizer = _clipped(clip, optimizers, loop) if clip.kind == "clip" else None
        met = _met(loop, optimizer) if optimizer is not None else None
        if optimizer is None or met is None:
            continue
        useful = any(
            {"fresh", "stale"} & states and not any((test, not value) in clip.branch for test, value in loop.events[i].branch)
            for i, states in met.items()
            if loop.events[i].kind == "clip"
        )
        seen = met.get(index, set()) - {"entry"}
        earlier = next((e.kind for e in reversed(loop.events[:index]) if e.kind in ("step", "backward")), "")
        if earlier == "backward" and any(e.kind == "step" for e in loop.events[index:]):
            continue  # it stands well, and what clears before it does not
        if seen and not useful and all(state == "used" or state.startswith("cleared") for state in seen):
            yield Wrong(loop, optimizer, clip, next(e for e in loop.events if e.kind == "step" and e.target == optimizer))


def _clipped(clip: Event, optimizers: Sequence[str], loop: TrainingLoop) -> str | None:
    """Return the optimizer whose gradients are clipped: the only one, or the one that alone holds these parameters."""
    if len(optimizers) == 1:
        return optimizers[0]
    holds = getattr(getattr(clip, "thing", None), "holds", None)
    if not holds:
        return None
    owners = []
    for event in loop.events:
        held = getattr(getattr(event, "thing", None), "holds", None) if event.kind == "step" else None
        if held and held & holds and event.target not in owners:
            owners.append(event.target)
    return owners[0] if len(owners) == 1 else None


def _cleared(loop: TrainingLoop, *, or_entry: bool = False) -> Iterator[Wrong]:
    """Yield for each optimizer that steps on cleared gradients on every path: the call that clears them, and the step.

    It is one step of several where the call stands behind the backward pass, or the pass behind the step in the same branch.
    `or_entry`: a step may also meet what the first iteration begins with.
    """
    if loop.why_unsure:
        return
    for optimizer in _stepping(loop):
        met = {i: states for i, states in (_met(loop, optimizer) or {}).items() if loop.events[i].kind == "step"}
        idle = {i: [int(state.split()[1]) for state in states if state.startswith("cleared ")] for i, states in met.items()}
        allowed = {"entry"} if or_entry else set()
        idle = {i: clearing for i, clearing in idle.items() if clearing and len(met[i] - allowed) == len(clearing)}
        pairs = [Wrong(loop, optimizer, loop.events[k], loop.events[i]) for i, clearing in idle.items() for k in clearing]
        alone = [wrong for wrong in pairs if _stands_late(wrong)] or [wrong for wrong in pairs if _has_its_pass_behind(wrong)]
        if alone:
            yield alone[0]
        elif pairs and all(i in idle or states <= allowed for i, states in met.items()):
            last = max(pairs, key=lambda wrong: _index(loop, wrong.event))
            yield last._replace(other=next(e for e in loop.events if e.kind == "step" and e.target == optimizer))


def _stands_late(wrong: Wrong) -> bool:
    """Return whether a backward pass comes before the call that clears, in the same iteration and since the step before."""
    clearing, step = _index(wrong.loop, wrong.event), _index(wrong.loop, wrong.other)
    earlier = [e.kind for e in reversed(wrong.loop.events[:clearing]) if e.kind in ("step", "backward")]
    return clearing < step and earlier[:1] == ["backward"]


def _has_its_pass_behind(wrong: Wrong) -> bool:
    """Return whether a backward pass follows a step under the same condition, and no other step comes between them."""
    later = wrong.loop.events[_index(wrong.loop, wrong.other) + 1 :]
    following = next((e for e in later if e.kind in ("backward", "step") and e.branch == wrong.other.branch), None)
    return bool(wrong.other.branch) and following is not None and following.kind == "backward"


def _index(loop: TrainingLoop, event: Event) -> int:
    return next(i for i, e in enumerate(loop.events) if e is event)


def _steps_again(loop: TrainingLoop, optimizer: str) -> bool:
    """Return whether the optimizer surely steps more than once: on every path, or each time a counter comes round."""
    paths = _paths(loop)
    steps = {i for i, e in enumerate(loop.events) if e.kind == "step" and e.target == optimizer}
    if paths and all(steps & set(path) for path in paths):
        return True
    branches = [_branch(loop.events[i], i) for i in steps]
    return any(branch and all(_RETURNS.search(key) for key, _ in branch) for branch in branches)


def _stepping(loop: TrainingLoop) -> list[str]:
    """Return the optimizers that step in the loop; none when the loop has no backward pass."""
    if not any(e.kind == "backward" for e in loop.events):
        return []
    return list(dict.fromkeys(e.target for e in loop.events if e.kind == "step" and e.target is not None))


def _at_steps(loop: TrainingLoop, optimizer: str) -> set[str] | None:
    """Return the states of its gradients that the steps of an optimizer meet; None when there are too many paths."""
    met = _met(loop, optimizer)
    if met is None:
        return None
    return {state for index, states in met.items() if loop.events[index].kind == "step" for state in states}


def _met(loop: TrainingLoop, optimizer: str) -> dict[int, set[str]] | None:
    """Return the states of the gradients of an optimizer that each step and clip meets, by the index of the event.

    "entry" (as the loop finds them), "fresh" (of passes since they were cleared), "used" (a step has seen them), "stale"
    (used, and a new pass was added), "cleared i" (by event i of the loop, no pass since).
    """
    paths = _paths(loop)
    if paths is None:
        return None
    met: dict[int, set[str]] = {}
    reached, pending = {"entry"}, ["entry"]
    while pending:
        entry = pending.pop()
        for path in paths:
            state = entry
            for index in path:
                event = loop.events[index]
                if event.kind == "backward":
                    state = "fresh" if state in ("entry", "fresh") or state.startswith("cleared") else "stale"
                elif event.kind == "zero_grad" and event.target == optimizer:
                    state = f"cleared {index}"
                elif event.kind == "clip":
                    met.setdefault(index, set()).add(state)
                elif event.kind == "step" and event.target == optimizer:
                    met.setdefault(index, set()).add(state)
                    state = state if state.startswith("cleared") else "used"
            if state not in reached and not _is_function(loop):
                reached.add(state)
                pending.append(state)
    return met


def _is_function(loop: TrainingLoop) -> bool:
    """Return whether it is the body of a function that is followed once, and none that an engine calls for each batch."""
    if loop.traced is None or loop.traced.node is not None:
        return False
    script, name = loop.traced.script, getattr(loop.traced.function, "name", "")
    engines = (given for call in script.calls.get("Engine", ()) for given in call.args)  # of ignite
    return not (name == "training_step" and optimizes_manually(script)) and name not in {last_of(given) for given in engines}


def _paths(loop: TrainingLoop) -> list[tuple[int, ...]] | None:
    """Return the events met on each path through one iteration, by index; None when there are too many conditions."""
    branches = [(index, _branch(event, index)) for index, event in enumerate(loop.events) if event.kind in GRADIENT]
    conditions = list(dict.fromkeys(key for _, branch in branches for key, _ in branch))
    if len(conditions) > MAX_CONDITIONS:
        return None
    paths: dict[tuple[int, ...], None] = {}
    for values in product((True, False), repeat=len(conditions)):
        holds = dict(zip(conditions, values, strict=True))
        paths[tuple(i for i, branch in branches if all(holds[key] == value for key, value in branch))] = None
    return list(paths)


def _branch(event: Event, index: int) -> tuple[tuple[str, bool], ...]:
    """Return the conditions of an event; for one that is only known to be uncertain, a condition of its own."""
    return event.branch or (() if event.certain else ((f"event {index}", True),))


def _backward_before(events: Sequence[Event], optimizer: str) -> Event:
    """Return the last backward pass before the first step of an optimizer, that of the iteration before if need be."""
    step = next(i for i, e in enumerate(events) if e.kind == "step" and e.target == optimizer)
    around = [*events[step:], *events[:step]]
    return next(e for e in reversed(around) if e.kind == "backward")


def wrong_in(script: Script, proven: Callable[[TrainingLoop], Iterator[Wrong]]) -> Iterator[tuple[Wrong, Location]]:
    """Yield what is proven of the loops and functions of a script, with its place: of a helper elsewhere where it is called."""
    for loop in stretches(script):
        found = list(proven(loop))
        for wrong in found:
            if isinstance(wrong.event, TracedEvent) and wrong.event.script is script:
                yield wrong, script.place(_site(script, loop, wrong.event, [one.event for one in found]))
            elif isinstance(wrong.event, TracedEvent):
                yield wrong, place(script, wrong.event)


def _site(script: Script, loop: TrainingLoop, event: TracedEvent, wrong: Sequence[Event]) -> ast.AST:
    """Return the call of an event; of a helper that the loop also runs where nothing is wrong, the call of the helper."""
    others = [e for e in loop.events if isinstance(e, TracedEvent) and e.node is event.node and e not in wrong]
    own = [call for call in event.calls if call in script.parents]
    apart = [call for call in own if not any(call in other.calls for other in others)]
    return apart[0] if others and apart and isinstance(apart[0], ast.Call) else event.node


def place(script: Script, event: TracedEvent) -> Location:
    """Return where an event stands in a script, or the call that leads to it."""
    return script.place(event.node if event.script is script else event.via)


def text_of_call(event: Event) -> str:
    """Return the call of an event as it is written, in one line."""
    if not isinstance(event, TracedEvent):
        return event.kind
    text = " ".join(event.script.source(event.node).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


# -- what mends it ----------------------------------------------------------------------------------------------------


def clear_inserted(script: Script, wrong: Wrong) -> Repair | None:
    """Return the repair of gradients that are never cleared: `zero_grad()` before the backward pass."""
    first = _first_pass(wrong)
    place = _statement(script, first)
    name = receiver(script, wrong.other.node) if isinstance(wrong.other, TracedEvent) else None
    if name is None or first is None or place is None or not _together(script, first, wrong.other):
        return None
    if any(isinstance(around, _COMPREHENSIONS) for around in script.above(wrong.other.node)):  # type: ignore[union-attr]
        return None  # the name of its optimizer ends with it
    edit = line_before(script, place, f"{name}.zero_grad()")
    return Repair(f"Call {name}.zero_grad() before the backward pass", (edit,), safe=True) if edit else None


def all_inserted(script: Script, of_one_pass: Sequence[Wrong]) -> Repair | None:
    """Return the repair of the gradients of several optimizers that one backward pass adds to; None where one has none."""
    repairs = [repair for repair in (clear_inserted(script, wrong) for wrong in of_one_pass) if repair is not None]
    if len(repairs) != len(of_one_pass) or len({(e.start, e.stop) for repair in repairs for e in repair.edits}) != 1:
        return None
    lines = dict.fromkeys(repair.edits[0].text for repair in repairs)
    title = repairs[0].title if len(lines) == 1 else "Call zero_grad() of each optimizer before the backward pass"
    return repairs[0]._replace(title=title, edits=(repairs[0].edits[0]._replace(text="".join(lines)),))


def clear_moved(script: Script, wrong: Wrong) -> Repair | None:
    """Return the repair of gradients that are cleared before the step: the call goes before the backward pass."""
    first = _first_pass(wrong)
    what, place = _statement(script, wrong.event), _statement(script, first)
    if first is None or what is None or place is None or not _together(script, first, wrong.event):
        return None
    if first.branch != wrong.event.branch:
        return None
    edits = moved_before(script, what, place)
    return Repair(f"Move {script.source(what)} before the backward pass", edits, safe=True) if edits else None


def step_moved(script: Script, wrong: Wrong) -> Repair | None:
    """Return the repair of a step before the backward pass: it goes behind the pass, and what clips or unscales after it."""
    events, step = wrong.loop.events, wrong.event
    at, last = _index(wrong.loop, step), wrong.other
    following = events[at + 1 :]
    for event in following:
        if event.kind in ("zero_grad", "step") and event.target == wrong.optimizer:
            break
        if event.kind in ("backward", "clip", "unscale"):
            last = event
    scaled = "scaler_update" in [e.kind for e in events] and events[-1].kind != "scaler_update"
    what, place = _statement(script, step), _statement(script, last)
    if what is None or place is None or scaled or not _together(script, last, step) or last.branch != step.branch:
        return None
    if sum(e.kind == "step" for e in events) != 1:
        return None
    edits = moved_after(script, what, place)
    return Repair(f"Move {script.source(what)} behind the backward pass", edits, safe=True) if edits else None


def clip_moved(script: Script, wrong: Wrong) -> Repair | None:
    """Return the repair of a clip that has no effect: it goes right before the step."""
    clip, step = wrong.event, wrong.other
    what, place = _statement(script, clip), _statement(script, step)
    kinds = [e.kind for e in wrong.loop.events]
    if what is None or place is None or kinds.count("step") != 1 or ("scaler_update" in kinds and "unscale" not in kinds):
        return None
    if not _together(script, clip, step) or clip.branch != step.branch:
        return None
    edits = moved_before(script, what, place)
    return Repair("Move the clipping between the backward pass and the step", edits, safe=True) if edits else None


def receiver(script: Script, call: ast.AST) -> str | None:
    """Return the text of the optimizer in `optimizer.step()`, `scaler.step(optimizer)`, `xm.optimizer_step(optimizer)`."""
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    given = call.args[0] if call.args and isinstance(call.args[0], ast.Name | ast.Attribute) else None
    if call.func.attr == "optimizer_step" or (given is not None and "scaler" in script.source(call.func.value).lower()):
        return script.source(given) if given is not None else None
    value = call.func.value
    return script.source(value) if isinstance(value, ast.Name | ast.Attribute | ast.Subscript) else None


def _statement(script: Script, event: Event | None) -> ast.stmt | None:
    """Return the plain statement that an event of this script stands in."""
    return plain_statement(script, event.node) if isinstance(event, TracedEvent) and event.script is script else None


def _together(script: Script, first: Event, second: Event) -> bool:
    both = isinstance(first, TracedEvent) and isinstance(second, TracedEvent)
    return both and side_by_side(script, first.node, second.node)  # type: ignore[union-attr]


def _first_pass(wrong: Wrong) -> Event | None:
    """Return the first backward pass after the step before, when the optimizer steps once in each iteration."""
    events = wrong.loop.events
    steps = [i for i, e in enumerate(events) if e.kind == "step" and e.target == wrong.optimizer]
    if len(steps) != 1:
        return None
    around = [*events[steps[0] + 1 :], *events[: steps[0]]]
    since = max((i for i, e in enumerate(around) if e.kind == "step"), default=-1) + 1
    passes = [e for e in around[since:] if e.kind == "backward"] or [e for e in around if e.kind == "backward"]
    others = {e.target for e in events if e.kind == "step"} != {wrong.optimizer}
    if not passes or (others and len(passes) > 1):
        return None
    return passes[0] if passes[0].branch == events[steps[0]].branch else None


def fix_patch(source: str, file: str, kind: str) -> str | None:
    """Return a unified diff that repairs the order of the calls, or None when there is not one right answer.

    `kind`: "TD301" inserts `zero_grad()` before the backward pass, "TD302" moves the misplaced call. The edited text is
    read again, and a patch is given only when the cause is gone from it and nothing else was found.
    """
    from traindoctor.diff import unified_diff

    text = old = source.removeprefix("\ufeff")
    try:
        for _ in range(8):
            script = read_script(text, file)
            repairs = [_repair(script, wrong, kind) for wrong in _wrong(script, kind)]
            if not repairs or repairs[0] is None:
                break
            text = applied(text, repairs[0].edits)
        if text == old or any(True for other in ("TD301", "TD302") for _ in _wrong(read_script(text, file), other)):
            return None
    except UnreadableInputError:
        return None
    return unified_diff(file, old, text, marked=old != source)


def _wrong(script: Script, kind: str) -> list[Wrong]:
    find = {"TD301": (uncleared,), "TD302": (cleared_late, stepped_early)}.get(kind, ())
    return [wrong for loop in stretches(script) for proven in find for wrong in proven(loop)]


def _repair(script: Script, wrong: Wrong, kind: str) -> Repair | None:
    mend = clear_inserted if kind == "TD301" else clear_moved if wrong.event.kind == "zero_grad" else step_moved
    return mend(script, wrong)
