import base64
import dataclasses
import hashlib
import html as htmllib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.report import sample
from traindoctor.model import Curve, Replay, Segment
from traindoctor.report.html import diff_lines, prose, render_html
from traindoctor.report.to_json import to_json

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, and a check that every one that is opened is closed."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.elements, self.stack, self.texts = [], [], []
        self.feed(source)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.stack):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def ids(self):
        return [attrs["id"] for _, attrs in self.elements if attrs.get("id")]


def page(*runs):
    return Page(render_html(sample.report_of(*runs)))


def test_a_failed_run_has_all_its_parts():
    made = page(sample.failed_run())
    for identity in ("verdict", "loss", "signs", "why", "tried", "else", "finding-2", "record", "patch"):
        assert identity in made.ids()
    for words in (
        "Training failed from step 2,471:",
        "Raise Adam’s eps from 1e-8 to 0.1",
        "Without the fix it reaches",
        "0.93, very likely",
        "yes, error",
        "1 error, 1 warning",
        "12 causes silent, 4 not checked",
        "What would refute it",
        "TD203 warmup-too-short",
        "Learning rate too high",
        "no gradient norm per layer was logged",
        "another speaks for it",
        "default in train.py:29",
        "Not tried",
        "Log a validation loss every 100 steps",
    ):
        assert words in made.text, words
    assert len(made.all("h1")) == 1


def test_figures_state_the_finding_in_a_sentence():
    figures = [e for e in page(sample.failed_run()).all("svg") if e.get("role") == "img"]
    assert len(figures) == 7
    assert all(f["aria-label"].strip().endswith(".") for f in figures)
    assert "Training failed from step 2,471" in figures[0]["aria-label"]


def test_the_patch_can_be_copied_whole():
    source = render_html(sample.report_of(sample.failed_run()))
    inner = re.search(r'<pre id="patch"[^>]*>(.*?)</pre>', source, re.S)[1]
    assert htmllib.unescape(re.sub(r"<[^>]+>", "", inner)) == sample.PATCH


def test_links_within_the_page_have_a_target_and_ids_are_unique():
    for runs in (
        (sample.failed_run(),),
        (sample.failed_run(), sample.healthy_run(), sample.undecided_run(), sample.failed_run()),
    ):
        made = page(*runs)
        ids = made.ids()
        assert len(ids) == len(set(ids))
        assert {a["href"][1:] for a in made.all("a")} <= set(ids)
        assert {e["aria-labelledby"] for _, e in made.elements if e.get("aria-labelledby")} <= set(ids)
        assert {b["data-copy"] for b in made.all("button")} <= set(ids)


def test_a_healthy_run_has_no_red():
    source = render_html(sample.report_of(sample.healthy_run()))
    body = source[source.index("<body>") : source.index('<script type="application/json"')]
    assert not re.search(r'class="[^"]*fault', body)
    assert "#b23a0e" not in body
    assert "second moment collapse" in body
    assert "resumed" in body


def test_an_undecided_run_says_what_to_do_next():
    made = page(sample.undecided_run())
    assert "What to do next" in made.text
    assert "Log the learning rate and the batch order" in made.text
    assert "The log lacks:" in made.text
    assert "logged learning rate: taken as constant" in made.text
    assert "6 values are not finite, first at epoch 450" in made.text
    assert "byte 18,211" in made.text


def test_the_finding_of_the_verdict_comes_first_and_remarks_of_a_healthy_run_are_no_diagnosis():
    failed, healthy = sample.failed_run(), sample.healthy_run()
    turned = dataclasses.replace(failed, findings=failed.findings[::-1])
    assert page(turned).text == page(failed).text
    remark = dataclasses.replace(failed.findings[1], severity="info")
    made = page(dataclasses.replace(healthy, findings=(remark,)))
    assert "No fault found" in made.text
    assert "Also found" in made.text
    assert "why" not in made.ids()
    assert "First fix" not in made.text


def test_several_runs_have_a_table_worst_first():
    made = page(sample.healthy_run(), sample.undecided_run(), sample.failed_run())
    text = made.text
    assert "1 failed, 1 undecided, 1 healthy" in text
    assert text.index("perceptron-overtrained") < text.index("notebook-7") < text.index("small-gpt")
    assert {"run-1", "run-2", "run-3", "run-1-verdict", "run-3-record"} <= set(made.ids())


def test_no_run_is_a_page_too():
    assert "No run was found" in page().text


def test_a_run_without_a_loss_says_so():
    run = sample.run_with("odd", sample.series("", "something", np.ones(5)))
    report = dataclasses.replace(sample.undecided_run(), run=run, findings=(), replay=None)
    made = page(report)
    assert "--tag loss=TAG" in made.text
    empty = dataclasses.replace(report, run=sample.run_with("empty", sample.series("loss", "loss", np.zeros(0))))
    assert "nothing was logged" in page(empty).text


def test_a_replay_that_does_not_reproduce_claims_nothing():
    steps = np.arange(600)
    curve = Curve("x", "reproduced", steps, np.ones(600))
    replay = Replay("closed", "a model", Segment(0, 600), curve, curve, curve, 2.4, 1.0, False, "the level is off by 2.4 decades")
    made = page(dataclasses.replace(sample.undecided_run(), replay=replay))
    assert "no, error 2.4 decades, bound 1" in made.text
    assert "the level is off by 2.4 decades" in made.text
    assert "not reproduced" in made.text


def test_hostile_strings_stay_text():
    source = render_html(sample.report_of(sample.hostile_run(), sample.failed_run()))
    assert source.count("<script") == 2
    assert source.count("</script") == 2
    assert "<img" not in source
    assert "\x1b" not in source
    assert "\u202e" not in source
    assert "secret-user" not in source
    made = Page(source)
    assert not made.all("img")
    assert "{{7*7}}" in made.text
    for _, attributes in made.elements:
        assert not [name for name in attributes if name.startswith("on")]


def test_lone_surrogates_and_long_names_are_written():
    run = sample.run_with("a\udc80" + "x" * 100_000, sample.series("loss", "l\udcff", np.ones(5)))
    source = render_html(sample.report_of(dataclasses.replace(sample.undecided_run(), run=run)))
    assert len(source.encode()) < 300_000


def test_the_policy_holds_the_hash_of_the_one_style_and_the_one_script():
    source = render_html(sample.report_of(sample.failed_run()))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', source)[1]
    policy = htmllib.unescape(policy)
    for kind, pattern in (("style-src", r"<style>(.*?)</style>"), ("script-src", r"<script>(.*?)</script>")):
        found = re.findall(pattern, source, re.S)
        assert len(found) == 1
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "base-uri 'none'" in policy
    assert "form-action 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_is_loaded_and_nothing_is_styled_inline():
    for run in (sample.failed_run(), sample.hostile_run()):
        made = page(run)
        for tag, attributes in made.elements:
            assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
            assert not {"style", "src", "srcset", "xlink:href"} & set(attributes)
            assert attributes.get("href", "#").startswith("#")


def test_the_findings_are_in_the_page_as_json():
    for run in (sample.failed_run(), sample.hostile_run()):
        report = sample.report_of(run)
        source = render_html(report)
        data = re.search(r'<script type="application/json" id="findings">(.*?)</script>', source, re.S)[1]
        assert json.loads(data) == json.loads(json.dumps(to_json(report)))


def test_the_page_is_small():
    assert len(render_html(sample.report_of(sample.failed_run())).encode()) < 400_000


def test_the_same_report_gives_the_same_bytes():
    program = "from tests.report import sample as s; import sys, hashlib; from traindoctor.report.html import render_html; "
    program += "r = s.report_of(s.healthy_run(), s.undecided_run(), s.hostile_run()); "
    program += "print(hashlib.sha256(render_html(r).encode()).hexdigest())"
    digests = set()
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("set `eps` to 1e-8", 'set <code>eps</code> to <span class="nb">1e-8</span>'),
        ("`<b>` & <i>", "<code>&lt;b&gt;</code> &amp; &lt;i&gt;"),
        ("Adam's", "Adam’s"),
        ("one ` only", "one ` only"),
    ],
)
def test_prose(text, made):
    assert str(prose(text)) == made


def test_the_lines_of_a_patch():
    kinds = [kind for kind, _ in diff_lines(sample.PATCH)]
    assert kinds == ["meta", "meta", "meta", "same", "same", "same", "add", "same"]
