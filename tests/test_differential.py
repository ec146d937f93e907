from math import exp, log

import pytest

from traindoctor.differential import NAMED, OPEN, SURE, TOP, Suspicion, decide
from traindoctor.rule import MODERATE, PRIOR, PROOF, STRONG, WEAK, Cause, against, supports


def cause(code, **settings):
    return Cause(code, f"made-up-{code.lower()}", "made up", "Made up.", **settings)


def suspect(code, *weights, texts=(), **settings):
    """Return a suspicion: positive weights support, negative ones speak against."""
    evidence = []
    for k, weight in enumerate(weights):
        make = supports if weight > 0 else against
        evidence.append(make(f"sign{k}", 1.0, weight=abs(weight), text=texts[k] if k < len(texts) else f"Sign {k} of {code}."))
    return Suspicion(cause(code, **settings), tuple(evidence))


def codes(opinion):
    return [d.suspicion.cause.code for d in opinion.diagnoses]


# -- sums by hand -----------------------------------------------------------------------------------------------------


def test_log_odds_are_the_prior_and_the_weights():
    assert suspect("TD901").log_odds == PRIOR
    assert suspect("TD901", STRONG, MODERATE, -WEAK).log_odds == pytest.approx(-3.0 + 3.0 + 1.5 - 0.7)
    assert not suspect("TD901", -WEAK).is_supported
    assert suspect("TD901", -PROOF, WEAK).is_supported


def test_nothing_is_found_in_nothing():
    assert decide([]).diagnoses == ()
    assert not decide([suspect("TD901"), suspect("TD902", -PROOF)]).diagnoses
    assert not decide([]).undecided


def test_one_strong_piece_alone_only_draws():
    opinion = decide([suspect("TD901", STRONG)])
    assert opinion.undecided
    assert [(d.severity, d.confidence) for d in opinion.diagnoses] == [("info", pytest.approx(0.5))]


def test_a_validation_that_draws_is_no_failed_course():
    assert not decide([suspect("TD901", STRONG, concerns=("validation",))]).undecided


def test_one_moderate_piece_says_nothing():
    opinion = decide([suspect("TD901", MODERATE, WEAK)])
    assert not opinion.diagnoses
    assert not opinion.undecided


def test_a_symptom_names_nothing():
    opinion = decide([suspect("TD901", PROOF), suspect("TD902", STRONG)], by_symptom=True)
    assert opinion.undecided
    assert [d.severity for d in opinion.diagnoses] == ["info"]
    assert opinion.diagnoses[0].confidence == OPEN


@pytest.mark.parametrize(
    ("weights", "confidence", "severity"),
    [
        ((STRONG, WEAK), exp(0.7) / (1.0 + exp(0.7)), "warning"),
        ((STRONG, MODERATE), exp(1.5) / (1.0 + exp(1.5)), "error"),
        ((PROOF,), exp(3.0) / (1.0 + exp(3.0)), "error"),
        ((PROOF, STRONG, -MODERATE), exp(4.5) / (1.0 + exp(4.5)), "error"),
    ],
)
def test_confidence_of_a_single_cause(weights, confidence, severity):
    (found,) = decide([suspect("TD901", *weights)]).diagnoses
    assert found.confidence == pytest.approx(min(TOP, confidence))
    assert found.severity == severity
    assert (confidence >= SURE) == (severity == "error")


def test_a_cause_that_only_warns_never_becomes_an_error():
    (found,) = decide([suspect("TD901", PROOF, severity="warning")]).diagnoses
    assert found.severity == "warning"


def test_the_shares_of_two_causes():
    opinion = decide([suspect("TD902", STRONG), suspect("TD901", PROOF)])
    (found,) = opinion.diagnoses
    total = 1.0 + exp(3.0) + exp(0.0)
    assert found.suspicion.cause.code == "TD901"
    assert found.confidence == pytest.approx(min(TOP, exp(3.0) / total))
    (rival,) = found.rivals
    assert rival.code == "TD902"
    assert rival.confidence == pytest.approx(1.0 / total)


def test_the_order_in_which_causes_come_does_not_matter():
    all_ = [suspect("TD901", PROOF), suspect("TD902", STRONG), suspect("TD903", MODERATE, WEAK)]
    one, other = decide(all_), decide(all_[::-1])
    assert codes(one) == codes(other)
    assert one.diagnoses[0].confidence == pytest.approx(other.diagnoses[0].confidence)
    assert one.diagnoses[0].rivals == other.diagnoses[0].rivals


# -- undecided --------------------------------------------------------------------------------------------------------


def test_two_causes_with_equal_evidence_are_both_named_and_alarm_nobody():
    opinion = decide([suspect("TD902", PROOF), suspect("TD901", PROOF)])
    assert opinion.undecided
    assert codes(opinion) == ["TD901", "TD902"]
    assert {d.severity for d in opinion.diagnoses} == {"info"}
    share = exp(3.0) / (1.0 + 2.0 * exp(3.0))
    assert share < NAMED
    for found, other in zip(opinion.diagnoses, ("TD902", "TD901"), strict=True):
        assert found.confidence == pytest.approx(share)
        assert [r.code for r in found.rivals] == [other]


def test_four_causes_with_a_quarter_each_all_stand():
    opinion = decide([suspect(f"TD90{k}", PROOF) for k in range(4)])
    assert opinion.undecided
    assert codes(opinion) == ["TD900", "TD901", "TD902", "TD903"]


def test_two_weak_causes_are_no_alarm():
    opinion = decide([suspect("TD901", MODERATE), suspect("TD902", MODERATE)])
    assert not opinion.undecided
    assert not opinion.diagnoses


# -- one root cause ---------------------------------------------------------------------------------------------------


def test_a_consequence_folds_under_its_cause():
    opinion = decide([suspect("TD201", PROOF), suspect("TD301", PROOF, explains=("TD201",))])
    (found,) = opinion.diagnoses
    assert found.suspicion.cause.code == "TD301"
    assert found.consequences == ("TD201",)
    assert found.rivals == ()
    assert found.confidence == TOP < exp(3.0) / (1.0 + exp(3.0))


def test_a_cause_far_weaker_explains_nothing():
    below, at = PROOF + STRONG + WEAK, PROOF + STRONG
    opinion = decide([suspect("TD201", below), suspect("TD301", PROOF, explains=("TD201",))])
    assert codes(opinion) == ["TD201"]
    opinion = decide([suspect("TD201", at), suspect("TD301", PROOF, explains=("TD201",))])
    assert codes(opinion) == ["TD301"]


def test_an_unlikely_cause_explains_nothing():
    opinion = decide([suspect("TD201", STRONG, MODERATE), suspect("TD301", STRONG, explains=("TD201",))])
    assert codes(opinion) == ["TD201"]
    assert opinion.diagnoses[0].consequences == ()


def test_a_cause_without_a_sign_explains_nothing():
    opinion = decide([suspect("TD201", PROOF), suspect("TD301", -WEAK, explains=("TD201",))])
    assert codes(opinion) == ["TD201"]


def test_consequences_of_consequences_fold_to_the_root():
    all_ = [
        suspect("TD401", PROOF),
        suspect("TD201", PROOF, explains=("TD401",)),
        suspect("TD301", PROOF, WEAK, explains=("TD201",)),
    ]
    (found,) = decide(all_).diagnoses
    assert found.suspicion.cause.code == "TD301"
    assert found.consequences == ("TD201", "TD401")


def test_of_two_explanations_the_likelier_is_the_root():
    all_ = [
        suspect("TD401", STRONG, MODERATE),
        suspect("TD101", STRONG, MODERATE, explains=("TD401",)),
        suspect("TD201", PROOF, STRONG, explains=("TD401",)),
    ]
    (found,) = decide(all_).diagnoses
    assert found.suspicion.cause.code == "TD201"
    assert found.consequences == ("TD401",)


def test_the_installed_rules_fold_the_rate_under_the_missing_zero_grad():
    from traindoctor.registry import load_rules

    causes = load_rules().causes
    evidence = (supports("sign", 1.0, weight=PROOF, text="Seen."),)
    (found,) = decide([Suspicion(causes[code], evidence) for code in ("TD201", "TD301")]).diagnoses
    assert found.suspicion.cause.code == "TD301"
    assert found.consequences == ("TD201",)


# -- rivals -----------------------------------------------------------------------------------------------------------


def test_why_not_is_the_heaviest_piece_against():
    rival = suspect("TD902", STRONG, -WEAK, -MODERATE, texts=("For.", "Light.", "Heavy."), experiment="look again")
    (found,) = decide([suspect("TD901", PROOF, STRONG), rival]).diagnoses
    # its share is 0.0003: too little for a line unless a reader would think of it
    assert found.rivals == ()
    (found,) = decide([suspect("TD901", PROOF, STRONG, look_alikes=("TD902",)), rival]).diagnoses
    assert found.rivals[0].why_not == "Heavy."
    assert found.rivals[0].separating_experiment == "look again"


def test_why_not_without_anything_against():
    (found,) = decide([suspect("TD901", PROOF), suspect("TD902", STRONG, texts=("A sign.",))]).diagnoses
    assert found.rivals[0].why_not == "Fewer of its signs are in the log: A sign."


def test_a_look_alike_without_a_sign_is_a_rival_all_the_same():
    (found,) = decide([suspect("TD901", PROOF, look_alikes=("TD902",)), suspect("TD902"), suspect("TD903")]).diagnoses
    (rival,) = found.rivals
    assert rival.code == "TD902"
    assert rival.why_not == "None of its signs is in the log."
    assert 0.0 < rival.confidence < 0.01


def test_a_consequence_is_no_rival():
    all_ = [suspect("TD201", PROOF), suspect("TD301", PROOF, explains=("TD201",), look_alikes=("TD201",))]
    (found,) = decide(all_).diagnoses
    assert found.rivals == ()


def test_rivals_come_with_the_likeliest_first():
    all_ = [suspect("TD901", PROOF, WEAK), suspect("TD902", STRONG, WEAK), suspect("TD903", STRONG, MODERATE)]
    (found,) = decide(all_).diagnoses
    assert [r.code for r in found.rivals] == ["TD903", "TD902"]
    assert log(found.rivals[0].confidence / found.rivals[1].confidence) == pytest.approx(MODERATE - WEAK)


# -- standalone -------------------------------------------------------------------------------------------------------


def test_a_standalone_cause_does_not_compete():
    damage = suspect("TD001", PROOF, standalone=True, severity="info")
    alone = decide([suspect("TD901", PROOF)]).diagnoses[0]
    first, second = decide([damage, suspect("TD901", PROOF)]).diagnoses
    assert first.suspicion.cause.code == "TD901"
    assert first.confidence == alone.confidence
    assert first.rivals == ()
    assert second.suspicion.cause.code == "TD001"
    assert second.severity == "info"
    assert second.confidence == pytest.approx(exp(3.0) / (1.0 + exp(3.0)))


def test_a_standalone_cause_needs_a_sign():
    assert not decide([suspect("TD001", -WEAK, standalone=True)]).diagnoses


def test_faults_in_the_script_are_no_rivals_of_each_other():
    def in_the_script(code):
        return Suspicion(cause(code), (supports("line", "a.py:3", weight=PROOF + STRONG, kind="code", text="There it stands."),))

    both = decide([in_the_script("TD901"), in_the_script("TD902")])
    assert not both.undecided
    assert [(found.severity, found.rivals) for found in both.diagnoses] == [("error", ())] * 2
    assert both.diagnoses[0].confidence == pytest.approx(exp(6.0) / (1.0 + exp(6.0)))
    (first, second) = decide([in_the_script("TD901"), in_the_script("TD902"), suspect("TD903", PROOF, MODERATE / 2)]).diagnoses
    assert first.confidence == pytest.approx(exp(6.0) / (1.0 + exp(6.0) + exp(3.75)))
    assert [rival.code for rival in first.rivals] == ["TD903"]
    assert [rival.code for rival in second.rivals] == ["TD903"]


# -- two causes in one run --------------------------------------------------------------------------------------------


def test_two_causes_that_each_stand_on_their_own_evidence_are_both_named():
    both = decide([suspect("TD901", PROOF, STRONG), suspect("TD902", PROOF, MODERATE)])
    assert codes(both) == ["TD901", "TD902"]
    assert [d.severity for d in both.diagnoses] == ["error", "error"]
    assert both.diagnoses[1].confidence == TOP < exp(4.5) / (1.0 + exp(4.5))


def test_look_alikes_compete_however_sure_each_is():
    alike = decide([suspect("TD901", PROOF, MODERATE, look_alikes=("TD902",)), suspect("TD902", PROOF, MODERATE)])
    assert alike.undecided
    assert codes(alike) == ["TD901", "TD902"]


def test_what_concerns_something_else_takes_no_belief():
    course, speed = suspect("TD901", PROOF), suspect("TD512", PROOF, concerns=("speed",))
    opinion = decide([course, speed])
    assert codes(opinion) == ["TD512", "TD901"]
    assert not opinion.undecided
    assert all(d.confidence == TOP for d in opinion.diagnoses)
    both = suspect("TD506", PROOF, concerns=("course", "validation"))
    assert decide([course, both]).undecided
