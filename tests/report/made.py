"""Reports of any content, made by hypothesis."""

import numpy as np
from hypothesis import strategies as st

from traindoctor.mistake import Location
from traindoctor.model import (
    Across,
    CommonCause,
    Curve,
    Damage,
    Evidence,
    Finding,
    Fix,
    NotChecked,
    OptimizerSpec,
    Replay,
    ReplayResult,
    Report,
    Rival,
    Run,
    RunReport,
    Segment,
    Separation,
    Series,
    Setting,
    Stitch,
    Trial,
)
from traindoctor.report.provenance import Input, Making, Provenance

words = st.text(max_size=12)
names = st.from_regex(r"[a-z`@<|\]#]{1,6}", fullmatch=True)
paths = st.from_regex(r"[a-z]{1,4}(/[a-z.]{1,5}){0,2}", fullmatch=True)
codes = st.from_regex(r"TD[0-9]{3}", fullmatch=True)
steps = st.integers(-(10**6), 10**12)
counts = st.integers(0, 10**9)
numbers = st.floats(width=64)


def maybe(one):
    return st.none() | one


texts = st.lists(words, max_size=3).map(tuple)
values = st.recursive(st.none() | st.booleans() | st.integers() | numbers | words, lambda v: st.lists(v, max_size=2).map(tuple))
settings = st.dictionaries(names, values, max_size=3)
depths = st.sampled_from(["open", "closed", "exact", "none"])
trials = st.sampled_from(["repairs", "postpones", "no effect", "worse", "not tried"])
severities = st.sampled_from(["error", "warning", "info"])
locations = st.builds(Location, paths, st.integers(1, 99), st.integers(1, 99), counts, counts, counts)
segments = st.builds(Segment, steps, steps, maybe(steps))


@st.composite
def series(draw, quantity, tag):
    step = draw(st.lists(steps, max_size=150))
    value = draw(st.lists(numbers, min_size=len(step), max_size=len(step)))
    nan = np.full(len(step), np.nan)
    return Series(quantity, tag, np.array(step, dtype=np.int64), np.array(value, dtype=np.float64), nan, draw(paths))


@st.composite
def runs(draw):
    tags = draw(st.lists(names, unique=True, max_size=4))
    made = [draw(series(draw(st.sampled_from(["", "loss", "grad_norm", "lr"])), tag)) for tag in tags]
    primary = {s.quantity: s for s in draw(st.permutations(made)) if s.quantity}
    return Run(
        name=draw(words),
        path=f"/home/someone/{draw(paths)}",
        root="/home/someone",
        series=tuple(made),
        primary=primary,
        settings=draw(st.dictionaries(names, st.builds(Setting, values, words), max_size=3)),
        optimizer=draw(
            maybe(st.builds(OptimizerSpec, words, maybe(numbers), maybe(numbers), maybe(numbers), eps_root=maybe(numbers)))
        ),
        damages=draw(st.lists(st.builds(Damage, words, paths, words, maybe(counts), maybe(steps)), max_size=2).map(tuple)),
        restarts=draw(st.lists(steps, max_size=2).map(tuple)),
        step_unit=draw(st.sampled_from(["step", "epoch", "row"])),
        files=draw(st.lists(paths, max_size=2).map(tuple)),
        config_files=draw(st.lists(paths, max_size=2).map(tuple)),
        code_files=draw(st.lists(paths, max_size=2).map(tuple)),
        checkpoint_files=draw(st.lists(paths, max_size=2).map(tuple)),
        formats=draw(st.dictionaries(paths, words, max_size=2)),
        stitches=draw(st.lists(st.builds(Stitch, words, paths, words, maybe(steps)), max_size=2).map(tuple)),
    )


def evidence(run):
    sources = words if not run.series else words | st.sampled_from([f"{s.source}: {s.tag}, replayed" for s in run.series])
    kinds = st.sampled_from(["log", "config", "code", "state", "replay"])
    value = maybe(numbers) | words
    return st.builds(
        Evidence, st.booleans(), kinds, words, words, st.floats(0, 9), value, words, sources, maybe(steps), maybe(locations)
    )


results = st.builds(ReplayResult, depths, trials, st.dictionaries(names, numbers), st.dictionaries(names, numbers), words)
fixes = st.builds(Fix, words, settings, maybe(st.text()), results, words)
confidences = st.floats(0, 1)
rivals = st.builds(Rival, codes, names, confidences, words, words)


def findings(run):
    return st.builds(
        Finding,
        codes,
        names,
        severities,
        confidences,
        words,
        words,
        maybe(segments),
        st.lists(evidence(run), max_size=3).map(tuple),
        st.lists(locations, max_size=2).map(tuple),
        st.lists(rivals, max_size=2).map(tuple),
        st.lists(codes, max_size=2).map(tuple),
        st.lists(fixes, max_size=2).map(tuple),
        words,
    )


nothing = Curve("", "observed", np.zeros(0, dtype=np.int64), np.zeros(0))
replays = st.builds(
    Replay,
    depths,
    words,
    segments,
    st.just(nothing),
    st.none(),
    st.none(),
    numbers,
    numbers,
    st.booleans(),
    words,
    st.lists(st.builds(Trial, words, settings, trials, numbers, maybe(numbers), st.just(nothing), words), max_size=2).map(tuple),
)
inputs = st.builds(Input, paths, words, maybe(counts), words, maybe(counts), counts)
pairs = st.lists(st.tuples(words, words), max_size=2, unique_by=lambda pair: pair[0]).map(tuple)
makings = st.builds(Making, words, words, counts, texts, pairs, pairs, st.booleans())
provenances = st.builds(Provenance, makings, st.lists(inputs, max_size=2).map(tuple), words, counts)


@st.composite
def run_reports(draw):
    run = draw(runs())
    return RunReport(
        run,
        draw(st.sampled_from(["failed", "suspicious", "healthy", "undecided"])),
        draw(words),
        draw(st.lists(findings(run), max_size=2).map(tuple)),
        draw(st.lists(codes, max_size=3).map(tuple)),
        draw(st.lists(st.builds(NotChecked, codes, words), max_size=2).map(tuple)),
        draw(texts),
        draw(maybe(replays)),
        provenance=draw(maybe(provenances)),
    )


separations = st.builds(
    Separation,
    words,
    words,
    counts,
    counts,
    counts,
    counts,
    numbers,
    numbers,
    numbers,
    words,
    st.lists(words, max_size=2).map(tuple),
)
causes = st.builds(CommonCause, codes | st.just(""), words, texts, st.lists(separations, max_size=2).map(tuple), words)
across = st.builds(Across, texts, texts, texts, counts, st.lists(causes, max_size=2).map(tuple), words)
reports = st.builds(
    Report, st.lists(run_reports(), max_size=2).map(tuple), words, texts, st.dictionaries(codes, words, max_size=3), maybe(across)
)
