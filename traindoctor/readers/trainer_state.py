"""`trainer_state.json` of the Hugging Face Trainer -> log, with the traces of the filter that hides NaN losses.

`log_history` mixes rows: training ({loss, grad_norm, learning_rate}), evaluation ({eval_loss, ...}) and, when training
ends, one summary whose `train_loss` is the mean over the whole run.

A logged loss is a sum over the steps since the row before, divided by their number. With `logging_nan_inf_filter`, the
default, a loss that is NaN or infinite adds sum / (1 + steps in it so far) instead of itself. So a window in which every
loss is NaN is logged as exactly 0, one in which some are as a finite mean, and the gradient norm, which is not filtered,
is that of the last step.

An evaluation loss leaves such batches out as well, and is NaN only when all of them are.

Source: transformers 5.23.0, trainer.py, `Trainer._maybe_log_save_evaluate` and the loop that calls it. Older versions
rounded the loss to four decimals, so that one below 0.00005 is logged as 0, too.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.jsonlog import load
from traindoctor.readers.jsonrows import Rows
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.table import count_times, find_step_column

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, Series
    from traindoctor.readers.table import Table

    BoolArray: TypeAlias = NDArray[np.bool_]

#: Fields of the state that say nothing of how it was trained.
NO_SETTINGS = frozenset(
    {
        "log_history",
        "stateful_callbacks",
        "is_local_process_zero",
        "is_world_process_zero",
        "is_hyper_param_search",
        "trial_name",
        "trial_params",
        "best_metric",
        "best_model_checkpoint",
        "best_global_step",
        "global_step",
        "epoch",
        "total_flos",
    }
)
#: A loss above this that is exactly 0 in the next row did not get there by training, nor by rounding to four decimals.
ABRUPT = 0.05

_LOG_HISTORY = re.compile(rb'"log_history"\s*:\s*\[')


def looks_like_trainer_state(head: bytes, name: str = "") -> bool:
    """Whether a file begins like the state of a Trainer, or is the pointer that git-lfs left of one."""
    if name == "trainer_state.json" and head.startswith(b"version https://git-lfs"):
        return True
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and _LOG_HISTORY.search(head) is not None


def read_trainer_state(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the log of a trainer state; of a cut one, the rows before the cut.

    `settings` hold what the state says of the training, and under `train_result` the summary: the loss in it is a mean
    over the run and no value of the series. `name`: that of a trial of a hyperparameter search.

    Raises: UnreadableInputError when it holds no log_history.
    """
    content, damages = load(data, file)
    history = content.get("log_history") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(history, list):
        raise UnreadableInputError(file, "is no state of a Hugging Face Trainer: it has no log_history")
    rows = Rows(file)
    rows.damages += damages
    records = [row for row in history if isinstance(row, dict)]
    if len(records) < len(history):
        count = len(history) - len(records)
        rows.damages.append(Damage("unreadable-row", file, f"{count_times(count, 'row')} of log_history: no objects, left out"))
    summaries = [row for row in records if _is_summary(row)]
    places = [i for i, row in enumerate(records, 1) if not _is_summary(row)]
    rows.add([records[i - 1] for i in places], places)
    rows.set_settings({key: value for key, value in content.items() if key not in NO_SETTINGS and value is not None})
    if isinstance(trial := content.get("trial_params"), dict):
        rows.set_settings(trial)
    if summaries:
        rows.set_settings({"train_result": summaries[-1] if len(summaries) == 1 else summaries})
    name = content.get("trial_name")
    if not rows.n:
        what = "log_history holds no row of values: nothing was logged before the state was saved"
        damages = tuple(rows.damages) or (Damage("empty-file", file, what),)
        return (Log("trainer-state", (), damages=damages, settings=rows.settings),)
    table = rows.table("row")
    found = find_step_column(list(table.numbers))
    hidden = nan_damages(table, hints.step_column or (found[0] if found else ""), file)
    first, *others = rows.logs(table, "trainer-state", hints)
    logs = (replace(first, damages=(*first.damages, *hidden)), *others)
    return tuple(replace(log, name=name if isinstance(name, str) else "") for log in logs)


def _is_summary(row: Mapping[str, object]) -> bool:
    """Whether a row is what the Trainer logs once, when training ends."""
    return "loss" not in row and ("train_runtime" in row or ("train_loss" in row and "total_flos" in row))


# -- what the filter of NaN losses leaves -----------------------------------------------------------------------------


def find_filtered(loss: FloatArray, grad_norm: FloatArray, logged: NDArray[np.bool_]) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Return for each training row (n,) whether its loss was NaN for certain, very likely, or possibly in part.

    `loss`, `grad_norm`: (n,) as logged, row by row. `logged`: (n,) bool, where there is a gradient norm. For certain: a
    loss of exactly 0 beside a gradient norm that is not finite. Very likely: 0 all at once after a loss above `ABRUPT`,
    where no gradient norm, or one of 0, stands beside it; beside one of 0 only when it stays so for three rows to the
    end. Possibly in part: a loss that is finite and not 0 beside a gradient norm that is not finite; a step that loss
    scaling skipped leaves the same trace. A loss of 0 beside an ordinary gradient norm is believed.
    """
    zero = loss == 0.0
    broken = logged & ~np.isfinite(grad_norm)
    certain = zero & broken
    quiet = zero & ~broken & (~logged | (grad_norm == 0.0))
    likely = np.zeros(loss.size, dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], quiet.view(np.int8), [0]))))
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        before = abs(float(loss[start - 1])) if start else 0.0
        lasting = stop == loss.size and stop - start >= 3
        goes_on = bool(start) and bool(certain[start - 1])
        likely[start:stop] = goes_on or (before > ABRUPT and (lasting or not logged[start:stop].any()))
    return certain, likely, broken & ~zero & np.isfinite(loss)


def nan_damages(table: Table, steps: str, file: str) -> tuple[Damage, ...]:
    """Return what the rows of a state say of losses that the filter hid; `steps`: the column that counts."""
    if "loss" not in table.numbers:
        return ()
    step = table.numbers.get(steps, np.arange(table.line.size, dtype=np.float64))
    rows = np.flatnonzero(table.filled["loss"] & (np.abs(step) < 2.0**62))
    step = step[rows]
    loss = table.numbers["loss"][rows]
    grad_norm = table.numbers.get("grad_norm", np.full(table.line.size, np.nan))[rows]
    logged = table.filled.get("grad_norm", np.zeros(table.line.size, dtype=bool))[rows]
    certain, likely, part = find_filtered(loss, grad_norm, logged)
    begins = part & np.append(certain[1:], False)  # the row in whose steps the NaN begins: its mean is of those before
    certain, part = certain | begins, part & ~begins
    damages = []
    if certain.any():
        mean = f", and at step {step[begins][0]:,.0f} the mean of those before it" if begins.any() else ""
        detail = (
            f"the gradient norm is not finite at {_steps(step[certain])} while the loss is logged as exactly 0{mean}: it was "
            "NaN or infinite, hidden by logging_nan_inf_filter of the Trainer"
        )
        damages.append(Damage("hidden-nan", file, detail, step=int(step[certain][0])))
    if likely.any():
        detail = (
            f"the loss drops to exactly 0 at {_steps(step[likely])}: very likely it was NaN or infinite there, and "
            "logging_nan_inf_filter of the Trainer put 0 in its place"
        )
        damages.append(Damage("hidden-nan", file, detail, step=int(step[likely][0])))
    if part.any():
        detail = (
            f"the gradient norm is not finite and the loss is at {_steps(step[part])}: a step that loss scaling skipped, or "
            "a mean that logging_nan_inf_filter of the Trainer took without the NaN losses in it"
        )
        damages.append(Damage("doubtful-loss", file, detail, step=int(step[part][0])))
    return tuple(damages)


def _steps(step: FloatArray) -> str:
    shown = [f"{value:,.0f}" for value in step[:5]]
    last = f" ... {step[-1]:,.0f}" if step.size > 5 else ""
    return f"{count_times(step.size, 'row')} (step{'s' if step.size > 1 else ''} {', '.join(shown)}{last})"


# -- several states of one run ----------------------------------------------------------------------------------------


def contains(longer: Log, shorter: Log) -> bool:
    """Whether a log begins with all that another one holds, as the state of a later checkpoint does.

    Each series of the shorter one is the beginning of the one of the same tag, NaN equal to NaN. A log without series
    is contained in none.
    """
    theirs = {series.tag: series for series in longer.series}
    return bool(shorter.series) and all(mine.tag in theirs and _begins_with(theirs[mine.tag], mine) for mine in shorter.series)


def _begins_with(longer: Series, shorter: Series) -> bool:
    n = len(shorter)
    return (
        len(longer) >= n
        and np.array_equal(longer.step[:n], shorter.step)
        and np.array_equal(longer.value[:n], shorter.value, equal_nan=True)
    )
