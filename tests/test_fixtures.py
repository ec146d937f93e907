import functools
import json
from pathlib import Path

import pytest

from traindoctor.pipeline import diagnose

ROOT = Path(__file__).parents[1] / "fixtures"
EXPECTED = {
    path.parent.relative_to(ROOT).as_posix(): json.loads(path.read_text())
    for kind in ("healthy", "sick")
    for path in sorted(ROOT.glob(f"{kind}/*/expected.json"))
}
ALARMS = ("error", "warning")


def having(key):
    return [case for case, expected in EXPECTED.items() if key in expected]


@functools.cache
def diagnosed(case):
    report = diagnose([ROOT / case])
    assert report.problems == ()
    assert len(report.runs) == 1, [run.run.name for run in report.runs]
    return report.runs[0]


@pytest.mark.parametrize("case", EXPECTED)
def test_diagnosis(case):
    expected = EXPECTED[case]
    run = diagnosed(case)
    alone = {"TD001"}  # damage of the log is beside the point here
    alarms = [f for f in run.findings if f.severity in ALARMS and f.code not in alone]
    codes = [f.code for f in alarms]

    assert run.verdict in (expected["verdict"], *expected.get("verdict_also", ())), run.summary
    if expected["first"]:
        assert codes[:1] == [expected["first"]]
    assert set(codes) <= {expected["first"], *expected.get("may", ())}
    assert not set(codes) & set(expected.get("not", ()))
    if expected["silent"]:
        assert [f.code for f in run.findings if f.severity in ALARMS] == []
    if expected["onset"]:
        low, high = expected["onset"]
        segment = alarms[0].segment
        assert segment is not None
        assert segment.onset is not None
        assert segment.start <= segment.onset < segment.stop
        assert low <= segment.onset <= high


@pytest.mark.parametrize("case", having("cause_setting"))
def test_the_setting_is_named(case):
    name = EXPECTED[case]["cause_setting"].removeprefix("optimizer.")
    first = diagnosed(case).findings[0]
    assert name in " ".join([first.title, first.message])
    assert any(name in fix.title or "optimizer.betas" in fix.settings for fix in first.fixes)


@pytest.mark.parametrize("case", having("code_line"))
def test_the_script_is_named(case):
    first = diagnosed(case).findings[0]
    assert {place.file for place in first.locations} == {"train.py"}
    source = (ROOT / case / "train.py").read_text().splitlines()
    line = source[first.locations[0].line - 1]
    called = EXPECTED[case]["code_line"]
    missing = first.code == "TD301"  # a call that the loop lacks has no line in it: the gradients it should clear have
    assert (".backward()" if missing else called) in line
    assert any(fix.patch and called in fix.patch for fix in first.fixes)


@pytest.mark.parametrize("case", having("fixes"))
def test_the_replay_agrees_with_retraining(case):
    """Settings that were retrained: those the replay tried get the same verdict, as far as they repair or not."""
    run, retrained = diagnosed(case), EXPECTED[case]["fixes"]
    fixes = run.findings[0].fixes
    assert run.replay is not None
    if not run.replay.reproduces:
        assert run.replay.refusal
        assert {fix.replay.verdict for fix in fixes} == {"not tried"}
        return
    tried = {(key, json.dumps(value)): fix.replay.verdict for fix in fixes for key, value in fix.settings.items()}

    def verdicts(kind):
        settings = [entry.split("=") for entry in retrained.get(kind, ())]
        parsed = [(key, json.dumps(value if key == "schedule.name" else json.loads(value))) for key, value in settings]
        return {setting: tried[setting] for setting in parsed if setting in tried}

    repairs, fails = verdicts("repairs"), verdicts("fails")
    assert repairs
    assert set(repairs.values()) == {"repairs"}, repairs
    assert "repairs" not in fails.values(), fails
