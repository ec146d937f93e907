"""What rules make of a state: it joins the evidence of the log, and its kind is told."""

from traindoctor.checkpoints.examples import checkpoint_of, state_of
from traindoctor.checkpoints.state import Moments
from traindoctor.pipeline import gather
from traindoctor.registry import load_rules
from traindoctor.rule import Cause, run_of, supports
from traindoctor.signals.measurements import Measurements

CAUSES = load_rules().causes
FALL = [2.0 * 0.99**k for k in range(200)]


def evidence(code, state, **quantities):
    cause = CAUSES[code]
    found = gather(cause, Measurements(run_of(**(quantities or {"loss": FALL}))), (), cause.limits(), state)
    return [e for e in found if e.kind == "state"]


def test_a_cause_that_looks_at_checkpoints_alone_is_not_checked_without_one():
    from traindoctor.pipeline import diagnose_run

    cause = Cause(code="TD999", name="seen-there-alone", summary="a test", explanation="A test.")

    @cause.in_state
    def looks(*_):
        yield supports("x", 1.0, weight=6.0, kind="state", text="It is there.")

    report = diagnose_run(run_of(loss=FALL), {"TD999": cause})
    assert cause.looks_at == ("checkpoint",)
    assert [(one.code, one.reason) for one in report.not_checked] == [("TD999", "no checkpoint beside the log")]


def test_no_rule_speaks_of_a_sound_state():
    sound = Moments(0.01, 0.0, 0.0, 0.06, rounded_away=0.1, dead_rows=1, rows=8)
    for dtype in ("float32", "float16", "bfloat16"):
        settings = {"eps": 1e-4} if dtype == "float16" else {}
        made = [checkpoint_of(n, dtype=dtype, moments=sound, settings=settings, epoch=3.0, scale=65536.0) for n in (100, 200)]
        for code, cause in CAUSES.items():
            if cause.state_rules:
                assert [e for e in evidence(code, state_of(*made, same=0.01, fell=0.4)) if e.supports] == [], (code, dtype)


def test_no_rule_fails_on_a_state_without_parts():
    from dataclasses import replace

    bare = replace(checkpoint_of(), weights={}, optimizers=(), step=None, step_source="", steps={})
    odd = replace(checkpoint_of(stepped=False), step=None)
    unsettled = replace(bare, optimizers=(replace(odd.optimizers[0], groups=(), held=()),), schedulers=({"last_epoch": "x"},))
    for code, cause in CAUSES.items():
        if cause.state_rules:
            for made in (bare, odd, unsettled):
                for quantities in ({"loss": FALL}, {"loss": [float("nan")] * 9}, {"accuracy": [0.1, 0.2]}, {"loss": [1.0]}):
                    evidence(code, state_of(made), **quantities)
                    evidence(code, state_of(made, odd, same=1.0), **quantities)


def test_a_lost_state_is_named_with_the_restart():
    from dataclasses import replace

    cause = CAUSES["TD805"]
    run = replace(run_of(loss=FALL), restarts=(120,))
    (found,) = [
        e
        for e in gather(cause, Measurements(run), (), cause.limits(), state_of(checkpoint_of(200, counted=80.0)))
        if e.kind == "state"
    ]
    assert found.weight == 6.0
    assert found.onset == 120
