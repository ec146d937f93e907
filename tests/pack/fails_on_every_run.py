"""A rule that fails on every run."""

from traindoctor.rule import Cause

CAUSE = Cause(code="HOUSE002", name="fails-on-every-run", summary="fails", explanation=__doc__)


@CAUSE.in_logs(needs=("loss",))
def divide(m, limits):  # noqa: ARG001 -- the interface's
    """Yield nothing: the first step fails."""
    yield m.loss.n / 0
