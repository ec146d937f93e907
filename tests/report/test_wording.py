import math

import pytest

from traindoctor.report import wording as w


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3.21e-11, "3.2e-11"),
        (1e-3, "1e-3"),
        (0.0817, "0.0817"),
        (38.0, "38"),
        (38.16, "38.2"),
        (999.7, "1000"),
        (6000.0, "6,000"),
        (1.5e6, "1.5e6"),
        (-0.5, "−0.5"),
        (0.0, "0"),
        (math.nan, "NaN"),
        (math.inf, "Inf"),
        (-math.inf, "−Inf"),
    ],
)
def test_numbers_are_written_as_people_type_them(value, shown):
    assert w.number(value) == shown


def test_an_upper_bound_is_rounded_up():
    assert w.at_most(3.21e-11) == "3.3e-11"
    assert w.at_most(3e-11) == "3e-11"
    assert float(w.at_most(0.0123)) >= 0.0123


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1e-8, "1e-8"),
        (0.001, "0.001"),
        (3e-4, "3e-4"),
        (True, "true"),
        (None, "none"),
        ((0.9, 0.999), "0.9, 0.999"),
        (6000, "6000"),
    ],
)
def test_settings_are_written_as_in_a_config(value, shown):
    assert w.setting(value) == shown


def test_what_cannot_be_seen_is_written_out():
    assert w.clean("a\x1b[31mb\u202ec\ud800") == "a\\x1b[31mb\\u202ec\\ud800"
    assert w.clean("a\nb\tc") == "a b c"
    assert len(w.clean("x" * 10_000)) == w.LONGEST
    assert w.clean_block("a\n\tb\x07") == "a\n\tb\\x07"


def test_paths_do_not_tell_of_the_machine():
    assert w.relative("/home/someone/p/runs/a.csv", "/home/someone/p") == "runs/a.csv"
    assert w.relative("/home/someone/p/runs/a.csv") == "a.csv"
    assert w.relative("C:\\Users\\someone\\a.csv") == "a.csv"
    assert w.relative("runs/a.csv") == "runs/a.csv"


@pytest.mark.parametrize(
    ("p", "word"), [(0.95, "very likely"), (0.9, "very likely"), (0.7, "likely"), (0.4, "possible"), (0.1, "unlikely")]
)
def test_confidence_has_a_word(p, word):
    assert w.likelihood(p) == word


def test_confidence_is_never_certain():
    assert (w.confidence(1.0), w.confidence(0.0), w.confidence(0.934)) == ("> 0.99", "< 0.01", "0.93")


def test_numbers_in_sentences_are_written_as_people_type_them():
    assert w.sentence("eps 1e-08, λ = 2.83e+03, tag e-07, 0x1e05") == "eps 1e-8, λ = 2.83e3, tag e-07, 0x1e05"
    assert w.stopped("a") == "a."
    assert w.stopped("a.") == "a."
