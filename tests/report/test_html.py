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
from tests.report.chromium import opened
from traindoctor.errors import TraindoctorError
from traindoctor.model import Curve, Replay, Segment, Setting
from traindoctor.report.fingerprint import fingerprint
from traindoctor.report.html import LARGEST_BYTES, render_html, render_replay
from traindoctor.report.markup import diff_lines, prose
from traindoctor.report.provenance import Input, Making, Provenance
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


def findings_in(source):
    return re.search(r'<script type="application/json" id="findings">(.*?)</script>', source, re.S)[1]


def page(*runs):
    return Page(render_html(sample.report_of(*runs)))


def test_a_failed_run_has_all_its_parts():
    made = page(sample.failed_run())
    for identity in ("verdict", "loss", "signs", "tried", "else", "record", "patch"):
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
        "traindoctor explain TD101",
        "1 of them: no checkpoint was given",
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


def test_the_patch_of_a_file_from_windows_keeps_its_line_ends():
    report = sample.failed_run()
    patch = sample.PATCH.replace(" optimizer:\n", " optimizer:\r\n").replace("+  eps: 0.1\n", "+  eps: 0.1\r\n")
    assert patch.count("\r") == 2
    fix = dataclasses.replace(report.findings[0].fixes[0], patch=patch)
    finding = dataclasses.replace(report.findings[0], fixes=(fix,))
    source = render_html(sample.report_of(dataclasses.replace(report, findings=(finding,))))
    assert "\r" not in source
    inner = re.search(r'<pre id="patch"[^>]*>(.*?)</pre>', source, re.S)[1]
    assert htmllib.unescape(re.sub(r"<[^>]+>", "", inner)) == patch
    assert "written out in the patch" not in source
    hidden = dataclasses.replace(fix, patch=sample.PATCH.replace("optimizer", "opt\u200bimizer"))
    finding = dataclasses.replace(finding, fixes=(hidden,))
    source = render_html(sample.report_of(dataclasses.replace(report, findings=(finding,))))
    assert r"opt\u200bimizer" in source
    assert "written out in the patch" in source


def test_links_within_the_page_have_a_target_and_ids_are_unique():
    for runs in (
        (sample.failed_run(),),
        (sample.undecided_run(),),
        (sample.healthy_run(),),
        (sample.hostile_run(),),
        (sample.failed_run(), sample.healthy_run(), sample.undecided_run(), sample.failed_run()),
        (),
    ):
        made = page(*runs)
        ids = made.ids()
        assert len(ids) == len(set(ids))
        assert {a["href"][1:] for a in made.all("a")} <= set(ids)
        assert {e["aria-labelledby"] for _, e in made.elements if e.get("aria-labelledby")} <= set(ids)
        assert {b["data-copy"] for b in made.all("button") if "data-copy" in b} <= set(ids)


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


def test_each_finding_can_be_linked_to_by_its_fingerprint():
    report = sample.failed_run()
    made = page(report)
    names = [fingerprint(report.run, finding) for finding in report.findings]
    assert len(names) == 2
    sections = [e["id"] for e in made.all("section") if "finding" in e.get("class", "").split()]
    assert sections == names
    links = {a["href"]: a.get("aria-label", "") for a in made.all("a") if a.get("class") == "link"}
    assert links == {f"#{name}": f"Link to this finding, {name}" for name in names}


def test_two_findings_of_one_cause_in_one_file_have_anchors_of_their_own():
    report = sample.failed_run()
    twice = dataclasses.replace(report, findings=(report.findings[0], report.findings[1], report.findings[1]))
    ids = page(twice).ids()
    assert len(ids) == len(set(ids))
    assert f"{fingerprint(report.run, report.findings[1])}-2" in ids


def test_where_the_report_comes_from_is_told():
    making = Making(
        "traindoctor diagnose logs", "ab" * 32, 109, ("core", "mine"), (("TD101 settling", "3"),), (("Python", "3.12.1"),)
    )
    inputs = (
        Input("metrics.csv", "csv", 1_234_567, "cd" * 32, 6000, 2),
        Input("far.csv", "csv", None, "not hashed: on a remote store", 12, 0),
    )
    report = dataclasses.replace(sample.failed_run(), provenance=Provenance(making, inputs, "", 3))
    text = page(report).text
    for words in (
        "traindoctor diagnose logs",
        "109 causes of core, mine",
        "ab" * 32,
        "TD101 settling = 3",
        "Python 3.12.1",
        "1,234,567",
        "cd" * 32,
        "not hashed: on a remote store",
        "3 further files",
        "with draws from fixed seeds",
    ):
        assert words in text, words


def test_a_page_that_would_be_too_large_has_fewer_points_and_then_is_refused():
    report = sample.report_of(sample.failed_run())
    whole = len(render_html(report).encode())
    assert whole < LARGEST_BYTES
    smaller = render_html(report, whole - 1)
    assert len(smaller.encode()) < whole
    assert json.loads(findings_in(smaller)) == json.loads(findings_in(render_html(report)))
    with pytest.raises(TraindoctorError, match=r"more than 0\.05 MB"):
        render_html(report, 50_000)


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
    source = render_html(sample.report_of(sample.hostile_run()))
    assert source.count("<script") == source.count("</script") == len(re.findall(r"<script(>| type)", source)) == 5
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
    assert len(source.encode()) < 400_000


def test_the_policy_holds_the_hashes_of_all_styles_and_scripts():
    source = render_html(sample.report_of(sample.failed_run()))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', source)[1]
    policy = htmllib.unescape(policy)
    for kind, pattern in (("style-src", r"<style>(.*?)</style>"), ("script-src", r"<script>(.*?)</script>")):
        found = re.findall(pattern, source, re.S)
        assert found
        digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found]
        wanted = " ".join(f"'sha256-{digest}'" for digest in digests)
        assert f"{kind} {wanted};" in policy
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
        assert json.loads(findings_in(source)) == json.loads(json.dumps(to_json(report)))


def test_secrets_are_not_in_the_page():
    run = sample.run_with("s3://me:hunter2@bucket/run", sample.series("loss", "loss", np.ones(5)))
    settings = {"api_key": Setting("abc", "config.yaml:1"), "tokenizer": Setting("gpt2", "config.yaml:2")}
    report = dataclasses.replace(sample.undecided_run(), run=dataclasses.replace(run, settings=settings))
    source = render_html(sample.report_of(report))
    assert "hunter2" not in source
    assert ">abc<" not in source
    assert '"abc"' not in source
    assert "gpt2" in source
    assert source.count("[redacted]") >= 4


def test_the_page_is_small():
    assert len(render_html(sample.report_of(sample.failed_run())).encode()) < 600_000


def test_a_replay_leaves_secrets_out_too():
    run = sample.run_with("https://me:hunter2@host/run", sample.series("loss", "loss", np.ones(600)))
    steps = np.arange(600)
    curve = Curve("x", "reproduced", steps, np.ones(600))
    source = render_replay(run, Replay("closed", "a model", Segment(0, 600), curve, curve, curve, 0.1, 1.0, True))
    assert "hunter2" not in source
    assert "[redacted]@host" in source


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
        ("(`--parameters`)", '(<code class="nb">--parameters</code>)'),
        ("beta2 = 1.0 makes", '<span class="nb">beta2 = 1.0</span> makes'),
        ("Adam's", "Adam’s"),
        ("one ` only", "one ` only"),
    ],
)
def test_prose(text, made):
    assert str(prose(text)) == made


def test_the_lines_of_a_patch():
    kinds = [kind for kind, _ in diff_lines(sample.PATCH)]
    assert kinds == ["meta", "meta", "meta", "same", "same", "same", "add", "same"]


@pytest.mark.parametrize("kind", ["failed", "healthy", "undecided"])
def test_the_first_screen_says_what_why_what_to_do_and_how_far_to_trust_it(browser, tmp_path, kind):
    report = getattr(sample, f"{kind}_run")()
    report = dataclasses.replace(report, run=dataclasses.replace(report.run, name="a-long-name-" * 12))
    file = tmp_path / "page.html"
    file.write_text(render_html(sample.report_of(report)), encoding="utf-8")
    page = opened(browser, file)
    below = page.evaluate(
        "['.run', 'h1', '.facts', ...(document.querySelector('#patch') ? ['#patch'] : [])]"
        ".filter(name => document.querySelector(name).getBoundingClientRect().bottom > innerHeight)"
    )
    assert below == []
    page.context.close()


def test_the_finding_that_a_link_leads_to_is_marked(browser, tmp_path):
    report = sample.failed_run()
    file = tmp_path / "page.html"
    file.write_text(render_html(sample.report_of(report)), encoding="utf-8")
    name = fingerprint(report.run, report.findings[1])
    page = opened(browser, f"{file.as_uri()}#{name}")
    marks = page.evaluate(
        "[...document.querySelectorAll('.finding')].map(e => getComputedStyle(e, '::before').content !== 'none')"
    )
    assert marks == [False, True]
    link = page.get_by_role("link", name=f"Link to this finding, {fingerprint(report.run, report.findings[0])}")
    link.focus()
    page.keyboard.press("Enter")
    assert page.url.endswith(f"#{fingerprint(report.run, report.findings[0])}")
    page.context.close()
