"""Which logs are one run: by their folder, by what they count and by what they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Stitch
from traindoctor.readers.events import EVENTS
from traindoctor.readers.stitch import RANK, Part, as_rank, attempts
from traindoctor.readers.storage import plain_name
from traindoctor.readers.tags import TEST, TRAIN, VALIDATION, quantity_of, spellings, words
from traindoctor.readers.trainer_state import contains

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from traindoctor.model import Damage, Series, StepUnit
    from traindoctor.readers.log import Log

#: Names of files that say nothing of the run.
PLAIN_STEMS = frozenset(
    spellings(
        "metrics history training train log logs progress measurements results result monitor loss losses scalars "
        "trainer_state output stdout console mlflow mlruns metrics.json"
    )
)
#: Folders beside or below the log of training that hold the other values of the same run.
HELD_OUT_FOLDERS = frozenset(spellings("validation val valid eval evaluation test"))
#: Words by which the curves of one figure are told apart.
SPLITS = TRAIN | VALIDATION | TEST
#: Columns that several tables of one run hold alike.
COMMON = frozenset(spellings("epoch lr learning_rate step"))
CHECKPOINT = re.compile(r"(?:checkpoint|ckpt|step|epoch|global_step)[-_]?\d+")
#: Formats whose loggers write one log into several files of a folder; of tables, two that agree may be two seeds.
WRITTEN_TWICE = frozenset({"mmengine", "jsonl", "json", "trainer-state"})
#: A file that begins so many usual distances behind the end of another one goes on where that ended.
CLOSE = 1.5
#: Two losses that differ by less than this, in the median, are one loss that was rounded or averaged otherwise.
ALIKE = 0.05
#: The same values in another format: this share of the shorter loss, at so many points at least.
SAME_SHARE, SAME_POINTS = 0.9, 5


@dataclass(slots=True)
class Draft:
    """A run while it is put together. `label`: what distinguishes it from the others of its folder."""

    folder: Path
    parts: list[Part]
    label: str = ""
    settings: dict[str, object] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)
    stitches: list[Stitch] = field(default_factory=list)

    @property
    def series(self) -> list[Series]:
        """All series of all parts."""
        return [s for part in self.parts for s in part.log.series]

    @property
    def is_events(self) -> bool:
        """Whether all of it comes from event files."""
        return all(part.log.format == EVENTS for part in self.parts)

    @property
    def unit(self) -> StepUnit:
        """What the steps count: the unit of its first part that holds a value."""
        return next((part.log.step_unit for part in self.parts if part.log.series), "step")


def label_of(part: Part, stem: str) -> str:
    """Return what the name of a file, without its suffix, says of its run; "" for a usual name."""
    if part.log.name:
        return part.log.name
    return "" if part.log.format == EVENTS or stem.lower() in PLAIN_STEMS or stem.startswith("run-") else stem


def group_folder(folder: Path, parts: Sequence[Part], stem: Callable[[Part], str]) -> list[Draft]:
    """Return the runs whose logs lie in one folder. A draft without series holds nothing but settings.

    The event files are one run, or one an attempt. Another log joins the runs before it, unless it logs the same tags or
    counts otherwise: then it is a run by itself. Logs that differ by the rank in their names are one run.
    """
    events = [part for part in parts if part.log.format == EVENTS and part.log.series]
    tried = attempts(events)
    drafts = [Draft(folder, run, f"attempt {i}" if len(tried) > 1 else "") for i, run in enumerate(tried, 1)]
    for draft in drafts[1:]:
        detail = "begins again at the first step: the attempt before it is a run by itself"
        draft.stitches.append(Stitch("attempts", str(draft.parts[0].place), detail))
    settings = {name: value for part in parts if not part.log.series for name, value in part.log.settings.items()}
    others, copies = _without_copies([part for part in parts if part.log.format != EVENTS and part.log.series])
    homes = _Homes(drafts)
    for part, extra in _without_ranks(others):
        if (home := homes.that_ends_before(part)) is not None:
            home.parts.append(replace(part, line=home.parts[-1].line))
        elif (home := homes.only_one_for(part.log)) is not None:
            known = home.series
            new = tuple(s for s in part.log.series if not any(_is_twice(k, s) for k in known))
            twice = len(part.log.series) - len(new)
            said = f"; {twice} of its tags hold the same values as there and are read there alone" if twice else ""
            detail = f"lies in the same folder as {home.parts[0].place.name}: one run{said}"
            home.stitches.append(Stitch("joined", str(part.place), detail))
            home.parts.append(replace(part, log=replace(part.log, series=new)))
        else:
            home = Draft(folder, [part], label_of(part, stem(part)))
            drafts.append(home)
        for other, rank in extra:
            home.parts.append(ranked(other, rank))
            home.stitches.append(_stitch_of_rank(other, rank))
        home.stitches += copies.get(id(part), ())
        homes.note(home, part)
    if drafts:
        for draft in drafts:
            draft.settings.update(settings)
    elif settings:
        drafts.append(Draft(folder, [part for part in parts if not part.log.series], settings=settings))
    if len(drafts) == 1:
        drafts[0].label = drafts[0].parts[0].log.name if drafts[0].parts[0].log.format not in (EVENTS, "csv") else ""
    return drafts


class _Homes:
    """The runs of a folder, found again by what they log: a folder may hold thousands of tables."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._by_tags: dict[frozenset[str], list[Draft]] = {}
        self._last: dict[tuple[str, frozenset[str]], Draft] = {}
        self._tags: dict[int, frozenset[str]] = {}
        for draft in drafts:
            self._file(draft)

    def _file(self, draft: Draft) -> None:
        before, tags = self._tags.get(id(draft)), frozenset(s.tag for s in draft.series)
        if tags != before:
            if before is not None:
                self._by_tags[before] = [d for d in self._by_tags[before] if d is not draft]
            self._by_tags.setdefault(tags, []).append(draft)
            self._tags[id(draft)] = tags

    def note(self, draft: Draft, part: Part) -> None:
        """Remember what a draft logs, now that a part has come to it."""
        self._file(draft)
        self._last[part.log.format, frozenset(s.tag for s in part.log.series)] = draft

    def that_ends_before(self, part: Part) -> Draft | None:
        """Return the last run of these tags where the part goes on from its end: a rotated or resumed log."""
        draft = self._last.get((part.log.format, frozenset(s.tag for s in part.log.series)))
        return draft if draft is not None and _continues(draft, part) else None

    def only_one_for(self, log: Log) -> Draft | None:
        """Return the run that the log is of, None where there is none, or more than one that it may be of."""
        loss = _loss_of(log.series, {})
        mine = {s.tag for s in log.series if s.tag.lower() not in COMMON}
        found: list[Draft] = []
        for tags, drafts in self._by_tags.items():
            found += [d for d in drafts[:2] if (d.is_events or not mine & tags) and _joins(d, log, loss)]
            if len(found) > 1:
                return None
        return found[0] if found else None


def _joins(draft: Draft, log: Log, loss: Series | None) -> bool:
    """Whether a log of other tags is of the same run: it counts alike, and its loss, if it has one, is the same loss."""
    if draft.unit != log.step_unit or (log.name and any(part.log.name not in ("", log.name) for part in draft.parts)):
        return False
    theirs = _loss_of(draft.series, {})
    if loss is None or theirs is None:
        return True
    both, at, of = np.intersect1d(theirs.step, loss.step, return_indices=True)
    if both.size < 3:
        return draft.is_events
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        apart = np.abs(theirs.value[at] / loss.value[of] - 1.0)
    return not float(np.nanmedian(apart)) > ALIKE if np.isfinite(apart).any() else True


def _is_twice(known: Series, new: Series) -> bool:
    """Whether two series are one: of one tag, or of one quantity, with the same values."""
    same_role = quantity_of(new.tag) not in ("", "epoch") and quantity_of(known.tag) == quantity_of(new.tag)
    return (known.tag == new.tag or same_role) and _is_same(known, new)


def _without_copies(parts: Sequence[Part]) -> tuple[list[Part], dict[int, list[Stitch]]]:
    """Return the parts but those that another one of their format holds whole, and what is to be said of these."""
    kept: dict[object, list[Part]] = {}
    gone: set[int] = set()
    copies: dict[int, list[Stitch]] = {}
    for part in sorted(parts, key=lambda p: -sum(map(len, p.log.series))):
        first = part.log.series[0]
        name = "" if part.log.format in WRITTEN_TWICE else plain_name(part.place)
        key = (part.log.format, part.log.name, name, first.tag, int(first.step[0]), float(first.value[0]))
        whole = next((k for k in kept.setdefault(key, []) if contains(k.log, part.log)), None)
        if whole is None:
            kept[key].append(part)
        else:
            gone.add(id(part))
            stitch = Stitch("copy", str(part.place), f"all of it stands in {whole.place.name}, and is read there alone")
            copies.setdefault(id(whole), []).append(stitch)
    return [part for part in parts if id(part) not in gone], copies


def _without_ranks(parts: Sequence[Part]) -> list[tuple[Part, list[tuple[Part, int]]]]:
    """Return the parts, those of one run but several ranks together under the lowest rank."""
    families: dict[tuple[str, str], list[tuple[int, Part]]] = {}
    for part in parts:
        found = RANK.search(part.place.name)
        if found is None:
            families[part.place.name, f"{part.log.name} {id(part)}"] = [(0, part)]
        else:
            name = part.place.name[: found.start()] + part.place.name[found.end() :]
            families.setdefault((name, part.log.name), []).append((int(found.group(1)), part))
    made = []
    for family in families.values():
        (_, first), *rest = sorted(family, key=lambda pair: pair[0])
        together = [(part, rank) for rank, part in rest if _in_step(first.log.series, part.log.series)]
        made.append((first, together))
        made += [(part, []) for _, part in rest if not any(part is one for one, _ in together)]
    return made


def _in_step(first: Sequence[Series], other: Sequence[Series]) -> bool:
    """Whether two logs share a tag, and log it at the same steps: as the processes of one run do."""
    theirs = {s.tag: s for s in first}
    shared = [(theirs[s.tag], s) for s in other if s.tag in theirs]
    return bool(shared) and all(np.intersect1d(a.step, b.step).size >= SAME_SHARE * min(len(a), len(b)) for a, b in shared)


def _stitch_of_rank(part: Part, rank: int) -> Stitch:
    return Stitch("rank", str(part.place), f"is the log of rank {rank} of the same run: its tags keep the rank")


def ranked(part: Part, rank: int) -> Part:
    """Return the part with the rank behind its tags."""
    return retagged(part, lambda tag: as_rank(tag, rank))


def retagged(part: Part, name: Callable[[str], str]) -> Part:
    """Return the part with other names for its tags."""
    series = tuple(replace(s, tag=name(s.tag)) for s in part.log.series)
    histograms = tuple(replace(h, tag=name(h.tag)) for h in part.log.histograms)
    return replace(part, log=replace(part.log, series=series, histograms=histograms))


def _continues(draft: Draft, part: Part) -> bool:
    """Whether a log of the same format and tags goes on where the last log of the draft ended: a rotated or resumed log."""
    last = draft.parts[-1].log
    if last.format != part.log.format or not last.series or {s.tag for s in last.series} != {s.tag for s in part.log.series}:
        return False
    old = max(last.series, key=len)
    new = next(s for s in part.log.series if s.tag == old.tag)
    if len(old) < 2 or not len(new):
        return False
    stride = float(np.median(np.diff(np.unique(old.step)))) if np.unique(old.step).size > 1 else 1.0
    return bool(0 < new.step[0] - old.step.max() <= CLOSE * stride)


# -- across folders ---------------------------------------------------------------------------------------------------


def fold(drafts: Sequence[Draft], aliases: Mapping[str, Sequence[str]]) -> list[Draft]:
    """Return the runs of a tree: what lies in several folders and is one run is put together, and said."""
    _share_settings(drafts)
    left = [draft for draft in drafts if draft.series]
    for step in (_fold_checkpoints, _fold_ranks, _fold_curves, _fold_held_out):
        left = step(left)
    return _fold_same(left, aliases)


def is_part(folder: str) -> bool:
    """Return whether a folder of this name may hold a part of a run whose other parts lie in the folders beside it."""
    if folder == "train" or folder in HELD_OUT_FOLDERS or RANK.fullmatch(folder) or CHECKPOINT.fullmatch(folder):
        return True
    return bool(SPLITS & set(words(folder)[1:]))


def _share_settings(drafts: Sequence[Draft]) -> None:
    """Give a run the hyperparameters that add_hparams put into a folder of its own below it."""
    by_folder = {draft.folder: draft for draft in drafts if draft.series}
    for draft in drafts:
        parent = by_folder.get(draft.folder.parent)
        if draft.settings and not draft.series and parent is not None and not parent.settings:
            parent.settings.update(draft.settings)
            detail = "holds the hyperparameters of the run above it"
            parent.stitches.append(Stitch("hyperparameters", str(draft.parts[0].place), detail))


def _fold_checkpoints(drafts: list[Draft]) -> list[Draft]:
    """Return the drafts, of the states that checkpoints of one run hold only the longest: it contains the others."""
    families: dict[Path, list[Draft]] = {}
    for draft in drafts:
        if all(part.log.format == "trainer-state" for part in draft.parts):
            home = draft.folder.parent if CHECKPOINT.fullmatch(draft.folder.name) else draft.folder
            families.setdefault(home, []).append(draft)
    gone: set[int] = set()
    for home, family in families.items():
        family.sort(key=lambda d: max(int(s.step[-1]) for s in d.series))
        longest = family[-1]
        for draft in family[:-1]:
            if contains(longest.parts[0].log, draft.parts[0].log):
                gone.add(id(draft))
                detail = "an earlier state of the same run: all of it stands in the later one"
                longest.stitches.append(Stitch("checkpoint", str(draft.parts[0].place), detail))
        if len(family) - len(gone & {id(d) for d in family}) == 1:
            longest.folder = home
    return [draft for draft in drafts if id(draft) not in gone]


def _fold_ranks(drafts: list[Draft]) -> list[Draft]:
    """Return the drafts; folders that differ by a rank in their names and log the same tags are one run."""
    families: dict[Path, list[tuple[int, Draft]]] = {}
    for draft in drafts:
        if (found := RANK.fullmatch(draft.folder.name)) is not None:
            families.setdefault(draft.folder.parent, []).append((int(found.group(1)), draft))
    gone: set[int] = set()
    for home, family in families.items():
        family.sort(key=lambda pair: pair[0])
        first = family[0][1]
        alike = [(rank, d) for rank, d in family[1:] if _in_step(first.series, d.series)]
        for rank, draft in alike:
            gone.add(id(draft))
            _absorb(first, draft, lambda tag, rank=rank: as_rank(tag, rank))  # type: ignore[misc]
            first.stitches.append(_stitch_of_rank(draft.parts[0], rank))
        if alike:
            first.folder = home
    return [draft for draft in drafts if id(draft) not in gone]


def _fold_curves(drafts: list[Draft]) -> list[Draft]:
    """Return the drafts; the folders that `add_scalars` writes below a run, one a curve, are of that run.

    `add_scalars("Loss", {"train": a, "val": b})` logs the tag Loss into the folders Loss_train and Loss_val; the tags become
    Loss/train and Loss/val. Curves of other names, of models that are compared say, stay runs, as do those of a loss that the
    run above logs itself.

    Source: torch/utils/tensorboard/writer.py, SummaryWriter.add_scalars.
    """
    curves = {id(draft): tag for draft in drafts if (tag := _curve_of(draft))}
    if not curves:
        return drafts
    by_folder: dict[Path, list[Draft]] = {}
    for draft in drafts:
        by_folder.setdefault(draft.folder, []).append(draft)
    left, homes = [draft for draft in drafts if id(draft) not in curves], {}
    for folder, (first, *more) in by_folder.items():
        if first.is_events and id(first) not in curves and not more:
            homes[folder] = first
    logged = {folder: {quantity_of(s.tag) for s in home.series} - {""} for folder, home in homes.items()}
    for draft in drafts:
        tag = curves.get(id(draft), "")
        if not tag:
            continue
        draft.parts = [retagged(part, lambda _, tag=tag: tag) for part in draft.parts]  # type: ignore[misc]
        above = draft.folder.parent
        home = homes.get(above)
        if len(by_folder[draft.folder]) > 1 or quantity_of(tag) in logged.get(above, ()):
            left.append(draft)
        elif home is None:
            homes[above] = draft
            left.append(draft)
        else:
            detail = f"folder {draft.folder.name} holds the curve {tag} of the same run, as add_scalars writes it"
            home.folder = above
            home.stitches.append(Stitch("joined", str(draft.parts[0].place), detail))
            _absorb(home, draft, lambda name: name)
    return left


def _curve_of(draft: Draft) -> str:
    """Return tag and name of the one curve, of training or held out, in a folder that `add_scalars` wrote; "" for others."""
    tags = {s.tag for s in draft.series}
    if len(tags) != 1 or not draft.is_events:
        return ""
    tag = tags.pop()
    stem, name = tag.replace("/", "_") + "_", draft.folder.name
    return f"{tag}/{name[len(stem) :]}" if name.startswith(stem) and SPLITS & set(words(name[len(stem) :])) else ""


def _fold_held_out(drafts: list[Draft]) -> list[Draft]:
    """Return the drafts; event files of `train` with `validation` beside it, or of a run with `eval` below it, are one run.

    A tag of the held-out folder gets its name in front, as TensorBoard shows it.
    """
    by_folder = {draft.folder: draft for draft in drafts if draft.is_events}
    gone: set[int] = set()
    for draft in drafts:
        home = draft.folder.parent if draft.folder.name == "train" and draft.folder in by_folder else draft.folder
        if draft.folder not in by_folder or id(draft) in gone or draft.folder.name in HELD_OUT_FOLDERS:
            continue
        tags = {s.tag for s in draft.series}
        for name in sorted(HELD_OUT_FOLDERS):
            other = by_folder.get(home / name)
            shares = other is not None and any(s.tag in tags or quantity_of(s.tag) == "loss" for s in other.series)
            if other is None or other is draft or id(other) in gone or not shares:
                continue
            gone.add(id(other))
            _absorb(draft, other, lambda tag, name=name: f"{name}/{tag}")  # type: ignore[misc]
            detail = f"folder {name} holds the held-out values of the same run"
            draft.stitches.append(Stitch("validation", str(other.parts[0].place), detail))
            draft.folder = home
    return [draft for draft in drafts if id(draft) not in gone]


def _absorb(draft: Draft, other: Draft, name: Callable[[str], str]) -> None:
    draft.parts += [retagged(part, name) for part in other.parts]
    draft.settings.update(other.settings)
    draft.damages += other.damages
    draft.stitches += other.stitches


def _fold_same(drafts: list[Draft], aliases: Mapping[str, Sequence[str]]) -> list[Draft]:
    """Return the drafts; one that holds the values of another one, in another format, is the same run logged twice.

    The draft with more points speaks; of the other one only the tags that are new are kept.
    """
    if len({part.log.format for draft in drafts for part in draft.parts}) < 2:
        return drafts
    losses = {id(draft): _loss_of(draft.series, aliases) for draft in drafts}
    gone: set[int] = set()
    by_size = sorted(drafts, key=lambda d: -len(losses[id(d)] or ()))
    for i, draft in enumerate(by_size):
        mine = losses[id(draft)]
        if id(draft) in gone or mine is None:
            continue
        for other in by_size[i + 1 :]:
            theirs = losses[id(other)]
            formats = {part.log.format for part in draft.parts}, {part.log.format for part in other.parts}
            near = draft.folder == other.folder or draft.folder in other.folder.parents or other.folder in draft.folder.parents
            if id(other) in gone or theirs is None or formats[0] & formats[1] or not near or draft.unit != other.unit:
                continue
            if np.unique(theirs.value).size < SAME_POINTS or not _is_same(mine, theirs, SAME_SHARE):
                continue
            gone.add(id(other))
            known = {s.quantity or s.tag for s in draft.series} | {quantity_of(s.tag, aliases) for s in draft.series}
            for part in other.parts:
                new = tuple(s for s in part.log.series if s.tag not in known and quantity_of(s.tag, aliases) not in known - {""})
                draft.parts.append(replace(part, log=replace(part.log, series=new)))
                both = len(part.log.series) - len(new)
                detail = f"logs the same run as {draft.parts[0].place.name}: {both} tags that both hold are read there alone"
                draft.stitches.append(Stitch("same-run", str(part.place), detail))
            draft.settings = {**other.settings, **draft.settings}
            draft.damages += other.damages
            draft.stitches += other.stitches
            if len(other.folder.parts) < len(draft.folder.parts):
                draft.folder = other.folder
    return [draft for draft in drafts if id(draft) not in gone]


def _loss_of(series: Sequence[Series], aliases: Mapping[str, Sequence[str]]) -> Series | None:
    found = [s for s in series if quantity_of(s.tag, aliases) == "loss"]
    return max(found, key=len, default=None)


def _is_same(long: Series, short: Series, share: float = 1.0) -> bool:
    """Whether this share of the shorter series stands in the longer one: at the same steps, the same values.

    The same to four digits, and to a tenth of their spread: two runs that are stuck at one level agree in digits, too.
    """
    both, at, of = np.intersect1d(long.step, short.step, return_indices=True)
    if not both.size or both.size < share * np.unique(short.step).size:
        return False
    a, b = long.value[at], short.value[of]
    finite = np.isfinite(a) & np.isfinite(b)
    spread = float(np.std(b[finite])) if finite.any() else 0.0
    apart = float(np.std(a[finite] - b[finite])) if finite.any() else 0.0
    if spread and apart > 0.1 * spread:
        return False
    return bool(np.isclose(a, b, rtol=1e-4, atol=0.0, equal_nan=True).mean() >= share)
