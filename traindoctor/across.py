"""Several runs together: which cause they share, and which setting separates those that failed from those that are sound.

For each setting that differs the best split of its values is sought: a threshold of a number, one word against the others. What
is found by searching is found too easily: the p-value of a setting is that of its best split among the best splits of the same
values under permuted outcomes, and Holm's correction allows for the number of settings.

Sources: Fisher 1922, J. Royal Stat. Soc. 85, 87 (exact test); Holm 1979, Scand. J. Statistics 6, 65 (correction).
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from math import comb, isfinite, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from traindoctor.configs.every import NEUTRAL, is_kept_or_shown, is_number, known_settings, other_settings, same
from traindoctor.model import Across, CommonCause, Separation
from traindoctor.readers.storage import locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, Run, RunReport

    BoolArray = NDArray[np.bool_]

#: Fewer runs than this on either side say nothing of a setting: of 2 and 2 one split in three is perfect by chance.
FEWEST = 3
#: Corrected p-value up to which a setting separates.
LEVEL = 0.05
#: All arrangements of the outcomes are tried up to so many; beyond, so many drawn ones.
MOST_ARRANGEMENTS, N_DRAWN = 12_000, 4_000
#: Splits of one setting that are tried, evenly over its values.
MOST_SPLITS = 40
#: Numbers that are names.
NOMINAL = frozenset({"seed"})
#: Characters of a value that are shown.
LONGEST = 60
#: Settings that are named when they go along with another.
MOST_NAMED = 4


class Outcome(NamedTuple):
    """What is needed of a run.

    `failed`: None where that is not known. `code`: of its first cause, "" for none. `settings`: their values. `mended_by`:
    settings that a fix of the first cause changes.
    """

    name: str
    failed: bool | None
    code: str
    settings: Mapping[str, object]
    mended_by: frozenset[str] = frozenset()


class Splits(NamedTuple):
    """The ways to cut the runs in two by a setting. `inside` (n_runs, n_splits): which runs stand on the side of `rules`."""

    key: str
    rules: tuple[str, ...]
    inside: BoolArray


class Tested(NamedTuple):
    """A setting's best split, with Fisher's p-value of it and the setting's own."""

    splits: Splits
    best: int
    p_split: float
    p_setting: float

    @property
    def inside(self) -> BoolArray:
        """The runs on the side of the best split's rule."""
        column: BoolArray = self.splits.inside[:, self.best]
        return column


def outcome_of(report: RunReport) -> Outcome:
    """Return what several runs are compared by."""
    failed = {"failed": True, "suspicious": True, "healthy": False}.get(report.verdict)
    first = report.findings[0] if report.findings and failed else None
    mended_by = frozenset(key for fix in first.fixes for key in fix.settings) if first is not None else frozenset()
    return Outcome(report.run.name, failed, "" if first is None else first.code, every_setting(report.run), mended_by)


def every_setting(run: Run) -> Mapping[str, object]:
    """Return the values of a run's settings: those of the vocabulary, and the other keys of its configs."""
    other = other_settings(locate(run.root), run.config_files)
    made = {key: s.value for key, s in other.items() if not is_kept_or_shown(key)}
    return made | {key: s.value for key, s in known_settings(run).items()}


def across(outcomes: Sequence[Outcome], names: Mapping[str, str] | None = None) -> Across | None:
    """Return what several runs say together, None for fewer than two. `names`: code -> name of a cause."""
    if len(outcomes) < 2:
        return None
    failed = [o for o in outcomes if o.failed]
    sound = [o for o in outcomes if o.failed is not None and not o.failed]
    left_out = tuple(o.name for o in outcomes if o.failed is None)
    keys = [key for key in sorted({k for o in outcomes for k in o.settings}) if _differs([_value(o, key) for o in outcomes])]
    groups = _groups(failed)
    tested = [_tests(keys, group, sound) if min(len(group), len(sound)) >= FEWEST else [] for _, group in groups]
    corrected = _holm([test.p_setting for tests in tested for test in tests])
    causes = []
    for (code, group), tests in zip(groups, tested, strict=True):
        p_values, corrected = corrected[: len(tests)], corrected[len(tests) :]
        mended_by = frozenset(key for one in group for key in one.mended_by)
        separations = _separations(tests, p_values, _labels(len(group), len(sound)), mended_by)
        name = (names or {}).get(code, "")
        text = _group_text(code, name, group, separations, n_sound=len(sound), n_tested=len(tests))
        causes.append(CommonCause(code, name, tuple(o.name for o in group), separations, text))
    text = f"{_n(len(outcomes), 'run')}: {len(failed)} failed, {len(sound)} sound"
    text += f", {len(left_out)} undecided and left out" if left_out else ""
    if failed and sound and not keys:
        text += ". No setting differs among them that is known"
    return Across(tuple(o.name for o in failed), tuple(o.name for o in sound), left_out, len(keys), tuple(causes), f"{text}.")


def _groups(failed: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    """Return the failed runs by their first cause, the most common one first; causes too rare to be tested go together."""
    by_code: dict[str, list[Outcome]] = {}
    for one in failed:
        by_code.setdefault(one.code, []).append(one)
    groups = sorted(by_code.items(), key=lambda g: (-len(g[1]), g[0]))
    rare = [g for g in groups if len(g[1]) < FEWEST]
    if len(rare) < 2 or len(rare) < len(groups):
        return groups
    return [("", [one for _, group in groups for one in group])]


# -- the ways to split ----------------------------------------------------------------------------------------------------


def _value(outcome: Outcome, key: str) -> object:
    return outcome.settings.get(key, NEUTRAL.get(key))


def _differs(values: Sequence[object]) -> bool:
    return any(not same(values[0], value) for value in values[1:])


def splits_of(key: str, values: Sequence[object]) -> Splits | None:
    """Return the ways to cut runs in two by the values of a setting, None where there is none.

    Numbers are cut by a threshold, anything else one value against the others; a name that nearly every run has for itself
    is no setting.
    """
    if not _differs(values):
        return None
    if all(is_number(v) and isfinite(v) for v in values) and key not in NOMINAL:  # type: ignore[arg-type]
        numbers = np.array(values, dtype=np.float64)
        cuts = np.unique(numbers)
        if cuts.size - 1 > MOST_SPLITS:
            cuts = cuts[np.unique(np.linspace(0, cuts.size - 1, MOST_SPLITS + 1).astype(np.int64))]
        rules = [f">= {high:.4g}" for high in cuts[1:]]
        return Splits(key, tuple(rules), numbers[:, None] >= cuts[None, 1:])
    kinds: list[object] = []
    member = np.zeros(len(values), dtype=np.int64)
    for i, value in enumerate(values):
        at = next((k for k, kind in enumerate(kinds) if same(kind, value)), None)
        if at is None:
            at = len(kinds)
            kinds.append(value)
        member[i] = at
    if len(kinds) > max(2, len(values) // 2):
        return None
    used = range(1) if len(kinds) == 2 else range(len(kinds))
    rules = [_named(kinds[k]) for k in used]
    return Splits(key, tuple(rules), member[:, None] == np.array(list(used))[None, :])


def _named(value: object) -> str:
    if value is None:
        return "not set"
    return f"= {str(value).lower() if isinstance(value, bool) else str(value)[:LONGEST]}"


# -- the test -------------------------------------------------------------------------------------------------------------


def _labels(n_failed: int, n_sound: int) -> BoolArray:
    return np.arange(n_failed + n_sound) < n_failed


def _tests(keys: Sequence[str], failed: Sequence[Outcome], sound: Sequence[Outcome]) -> list[Tested]:
    """Return the best split of each setting that can be split."""
    labels = _labels(len(failed), len(sound))
    arrangements = _arrangements(labels, np.zeros(labels.size, dtype=bool))
    made = []
    for key in keys:
        splits = splits_of(key, [_value(o, key) for o in (*failed, *sound)])
        if splits is not None:
            best, p_split = _best(splits.inside, labels[None, :])
            made.append(Tested(splits, int(best[0]), float(p_split[0]), _chance(splits.inside, float(p_split[0]), *arrangements)))
    return made


def _best(inside: BoolArray, labels: BoolArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Return for each arrangement (n_arrangements, n_runs) of the outcomes the split with the smallest p-value, and that."""
    n_inside = inside.sum(axis=0)
    failed_inside = np.rint(labels.astype(np.float32) @ inside.astype(np.float32)).astype(np.int64)
    n_failed = int(labels[0].sum())
    table = {int(m): fisher(labels.shape[1], n_failed, int(m)) for m in np.unique(n_inside)}
    p = np.column_stack([table[int(m)][failed_inside[:, j]] for j, m in enumerate(n_inside)])
    best = p.argmin(axis=1)
    return best, p[np.arange(best.size), best]


@lru_cache(maxsize=4_096)
def fisher(n: int, n_failed: int, n_inside: int) -> FloatArray:
    """Return Fisher's two-sided p-value of 0, 1, ... `n_failed` failed runs inside, (n_failed + 1,), margins held.

    The same as scipy.stats.fisher_exact, whose import takes longer than the test. What the margins do not allow is 1.
    """
    inside = range(max(0, n_inside + n_failed - n), min(n_failed, n_inside) + 1)
    ways = {k: comb(n_failed, k) * comb(n - n_failed, n_inside - k) for k in inside}
    below = dict(zip(ranked := sorted(ways.values()), itertools.accumulate(ranked), strict=True))  # the last of equal ones counts
    return np.array([below[ways[k]] / comb(n, n_inside) if k in ways else 1.0 for k in range(n_failed + 1)])


def _chance(inside: BoolArray, observed: float, arrangements: BoolArray, is_all: bool) -> float:
    """Return how often the best split of permuted outcomes is as good as that of the real ones."""
    _, permuted = _best(inside, arrangements)
    as_good = int((permuted <= observed * (1.0 + 1e-7)).sum())
    return as_good / len(permuted) if is_all else (as_good + 1.0) / (len(permuted) + 1.0)


def _given(test: Tested, first: Tested, labels: BoolArray) -> float:
    """Return the p-value of a setting once another one is known: the outcomes are permuted on either side of that one alone."""
    return _chance(test.splits.inside, test.p_split, *_arrangements(labels, first.inside))


def _arrangements(labels: BoolArray, stratum: BoolArray) -> tuple[BoolArray, bool]:
    """Return arrangements of the outcomes within the two strata, and whether they are all there are."""
    places = [np.flatnonzero(stratum == side) for side in (False, True)]
    counts = [int(labels[at].sum()) for at in places]
    if prod(comb(at.size, k) for at, k in zip(places, counts, strict=True)) <= MOST_ARRANGEMENTS:
        halves = [[at[list(c)] for c in itertools.combinations(range(at.size), k)] for at, k in zip(places, counts, strict=True)]
        made = np.zeros((prod(len(half) for half in halves), labels.size), dtype=bool)
        for row, parts in zip(made, itertools.product(*halves), strict=True):
            row[np.concatenate(parts)] = True
        return made, True
    draw = np.random.default_rng(0)  # the same report for the same runs
    made = np.repeat(labels[None, :], N_DRAWN, axis=0)
    for at in places:
        made[:, at] = draw.permuted(made[:, at], axis=1)
    return made, False


def _holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values after Holm's correction, in their order."""
    made = [1.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        made[i] = highest
    return made


# -- what it says ---------------------------------------------------------------------------------------------------------


def _separations(
    tests: Sequence[Tested], p_values: Sequence[float], labels: BoolArray, mended_by: frozenset[str]
) -> tuple[Separation, ...]:
    """Return the settings that separate: the best one, with what goes along with it, and others beside it."""
    found = sorted(
        ((p, test) for p, test in zip(p_values, tests, strict=True) if p <= LEVEL),
        key=lambda pair: (pair[1].p_split, pair[1].splits.key not in mended_by, pair[1].splits.key),
    )
    kept: list[tuple[float, Tested, list[str]]] = []
    for p, test in found:
        telling = [(first, along) for _, first, along in kept if _given(test, first, labels) > LEVEL]
        if not telling:  # it separates where no other one does
            kept.append((p, test, []))
        elif all(_given(first, test, labels) > LEVEL for first, _ in telling):  # neither is known once the other one is
            telling[0][1].append(test.splits.key)
    return tuple(_separation(test, p, labels, tuple(along), len(tests)) for p, test, along in kept)


def _separation(test: Tested, p_value: float, labels: BoolArray, confounded: tuple[str, ...], n_settings: int) -> Separation:
    inside, rule = test.inside, test.splits.rules[test.best]
    if labels[inside].mean() < labels[~inside].mean():
        inside, rule = ~inside, _opposite(rule)
    counts = (int(labels[inside].sum()), int(inside.sum()), int(labels[~inside].sum()), int((~inside).sum()))
    text = _separation_text(test, rule, counts, p_value, n_settings)
    if confounded:
        named = _and(
            [*confounded[:MOST_NAMED], *([f"{len(confounded) - MOST_NAMED} more"] if len(confounded) > MOST_NAMED else [])]
        )
        text += f" {named} {'goes' if len(confounded) == 1 else 'go'} along with it: these runs do not tell them apart."
    return Separation(test.splits.key, rule, *counts, test.p_split, test.p_setting, p_value, text, confounded)


def _opposite(rule: str) -> str:
    if rule.startswith(">= "):
        return f"< {rule[3:]}"
    return "set" if rule == "not set" else f"other than {rule.removeprefix('= ')}"


def _separation_text(test: Tested, rule: str, counts: tuple[int, int, int, int], p_value: float, n_settings: int) -> str:
    failed_in, n_in, failed_out, n_out = counts
    with_rule = f"with {test.splits.key} {rule}"
    inside = f"all {n_in} runs {with_rule} failed" if failed_in == n_in else f"{failed_in} of {n_in} runs {with_rule} failed"
    outside = f"none of the {n_out} others did" if failed_out == 0 else f"{failed_out} of the {n_out} others did"
    tried = f"p = {p_value:.2g} after the choice among {_n(len(test.splits.rules), 'split')} and {_n(n_settings, 'setting')}"
    return f"{inside[0].upper()}{inside[1:]}, {outside} ({tried})."


def _group_text(
    code: str, name: str, group: Sequence[Outcome], separations: Sequence[Separation], *, n_sound: int, n_tested: int
) -> str:
    who = f"{code} {name}".strip() if code else "Several causes"
    head = f"{who}, {_n(len(group), 'run')}"
    if separations:
        return " ".join([f"{head}.", *(s.text for s in separations)])
    if len(group) < FEWEST or n_sound < FEWEST:
        return f"{head}: too few to say which setting it is, {FEWEST} failed and {FEWEST} sound ones are needed."
    if not n_tested:
        return f"{head}: no setting that is known differs between them and the sound ones."
    return f"{head}: no setting separates them from the sound ones beyond chance ({_n(n_tested, 'setting')} tried)."


def _n(count: int, one: str) -> str:
    return f"{count} {one}{'' if count == 1 else 's'}"


def _and(items: Sequence[Any]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
