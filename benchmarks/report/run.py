"""Size of the report, the time to build it, and how long a browser takes to show it: of a long run, and of many.

python benchmarks/report/run.py            # 1,000,000 steps of 20 series and 200 runs; minutes, 1.3 GB in the temporary folder
python benchmarks/report/run.py --small    # 20,000 steps and 8 runs, some 20 seconds
python benchmarks/report/run.py --peer PYTHON    # an interpreter with plotly, whose page of the same series is measured too

Needs Chromium and playwright. Times are wall seconds and CPU seconds, of this process or of the main thread of the page: where
other work runs beside it, the CPU seconds are the ones to trust.
"""

import argparse
import importlib.util
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from traindoctor.pipeline import DiagnoseOptions, diagnose
from traindoctor.report.html import write_html
from traindoctor.report.provenance import making_of, with_provenance
from traindoctor.report.redaction import redacted

ROOT = Path(__file__).parents[2]
SEED, TAGS = 2020, 20
#: What a page may take at most: bytes and seconds.
MOST = {"page": 2_000_000, "build": 5.0, "render": 1.0, "index": 1_000_000}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
#: Seconds since the navigation began: of the first contentful paint, and of the second frame after all scripts ran.
SHOWN = """async () => {
  const frame = () => new Promise(done => requestAnimationFrame(done));
  await frame();
  await frame();
  const drawn = performance.now();
  while (!performance.getEntriesByName('first-contentful-paint').length && performance.now() < drawn + 5000) await frame();
  return [performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000, drawn / 1000] }"""
#: What is run with the other interpreter: the file of series, the page to write.
PEER = """import sys
import numpy as np
import plotly
import plotly.graph_objects as go
from plotly.subplots import make_subplots

names, values = (lambda made: (list(made["names"]), made["values"]))(np.load(sys.argv[1]))
figure = make_subplots(rows=len(names), cols=1, shared_xaxes=True)
for i, (name, value) in enumerate(zip(names, values)):
    figure.add_trace(go.Scatter(y=value, name=str(name), mode="lines"), row=i + 1, col=1)
figure.update_layout(height=150 * len(names))
figure.write_html(sys.argv[2], include_plotlyjs=True)
print(plotly.__version__)
"""


def other(name):
    """Return the program of another benchmark as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / name / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def series_of(n_steps):
    """Return 20 series of a run by formula: an exact fit that rises again late, with what is usually logged beside a loss."""
    t, rng = np.arange(n_steps), np.random.default_rng(SEED)
    noise = rng.standard_normal((TAGS, n_steps)).astype(np.float32)
    late = np.clip((t / n_steps - 0.8) / 0.04, 0.0, 1.0)
    level = np.maximum(90.0 * np.exp(-t / (0.003 * n_steps)), 5e-12) * 10.0 ** (8.0 * late)
    made = {
        "train/loss": level * np.exp(0.3 * noise[0]),
        "train/lr": np.full(n_steps, 1e-4),
        "train/grad_norm": np.sqrt(2.0 * 2_700.0 * level) * np.exp(0.3 * noise[1]),
        "train/weight_norm": 30.0 + t / n_steps + 1e-3 * noise[2],
        "val/loss": 1.1 * level * np.exp(0.1 * noise[3]),
        "val/accuracy": 0.7 + 0.01 * noise[4],
    }
    for layer in range(4):
        made[f"grad_norm/layer_{layer}.weight"] = made["train/grad_norm"] * np.exp(0.1 * noise[6 + layer]) / 2.0
        made[f"weight_norm/layer_{layer}.weight"] = 15.0 + 1e-3 * noise[10 + layer]
    while len(made) < TAGS:
        made[f"stats/extra_{len(made):02}"] = 1.0 + 0.1 * noise[len(made)]
    return made


def write_events(folder, series):
    """Write the series as one event file, record by record as `SummaryWriter.add_scalar` does, with the config beside it."""
    writing = other("diagnose")
    n_steps = next(iter(series.values())).size
    step = np.arange(n_steps)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("optimizer:\n  name: Adam\n  lr: 1.0e-4\n  betas: [0.9, 0.999]\n  eps: 1.0e-8\n")
    edges = sorted({0, n_steps, *(e for e in (1 << 7, 1 << 14) if e < n_steps), *range(1 << 14, n_steps, 20_000)})
    with (folder / "events.out.tfevents.1700000000.benchmark.1.0").open("wb") as stream:
        for start, stop in itertools.pairwise(edges):
            at = slice(start, stop)
            rows = [writing.records(step[at], 1.7e9 + 0.05 * step[at], tag, value[at]) for tag, value in series.items()]
            stream.write(np.hstack(rows).tobytes())


def timed(call):
    """Return what a call returns, and its wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = call()
    return made, time.perf_counter() - wall, time.process_time() - cpu


def report_and_page(path, html):
    """Diagnose a folder and write its page as the command does; return what was written and the seconds of both."""
    options = DiagnoseOptions()
    report, *diagnosed = timed(lambda: diagnose([path], options))

    def build():
        return write_html(redacted(with_provenance(report, making_of((str(path),), options))), html)

    written, *built = timed(build)
    return report, written, diagnosed, built


def shown(browser, page_file, repeats, patience=120):
    """Return the medians, over some loads: seconds to the first paint, to the drawn page, and CPU seconds of the main thread."""
    loads = []
    for _ in range(repeats):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.set_default_timeout(1000 * patience)
        session = context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(page_file.as_uri(), timeout=1000 * patience)
        first, drawn = page.evaluate(SHOWN)
        busy = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}["TaskDuration"]
        loads.append((first, drawn, busy))
        context.close()
    return tuple(statistics.median(column) for column in zip(*loads, strict=True))


def told(what, value, most, unit):
    """Print one number against what it may be at most."""
    form = f"{value / 1000:,.0f} kB of {most / 1000:,.0f} kB" if unit == "bytes" else f"{value:.2f} s of {most:g} s"
    print(f"  {what:<44}{form:<24}{'ok' if value <= most else 'MISSED'}")


def long_run(browser, here, n_steps, peer, repeats):
    """Measure the page of a long run, and that of plotly of the same series."""
    series = series_of(n_steps)
    write_events(here / "run", series)
    html = here / "report.html"
    report, written, diagnosed, built = report_and_page(here / "run", html)
    n_figures = html.read_text(encoding="utf-8").count('data-figure="')
    print(f"\n{n_steps:,} steps of {TAGS} series: {report.runs[0].verdict}, {n_figures} figures, {written.n_pages} page")
    print(f"  the diagnosis itself: {diagnosed[0]:.2f} s wall, {diagnosed[1]:.2f} s CPU")
    first, drawn, busy = shown(browser, html, repeats)
    told("size of the page", html.stat().st_size, MOST["page"], "bytes")
    told("building it beyond the diagnosis, wall", built[0], MOST["build"], "seconds")
    told("building it beyond the diagnosis, CPU", built[1], MOST["build"], "seconds")
    told(f"first paint in the browser, median of {repeats}", first, MOST["render"], "seconds")
    told("all drawn, and every script has run", drawn, MOST["render"], "seconds")
    told("CPU of the browser's main thread", busy, MOST["render"], "seconds")
    if peer is None:
        print("  plotly: not measured (--peer PYTHON names an interpreter that has it)")
        return
    np.savez(here / "series.npz", names=np.array(list(series)), values=np.array(list(series.values()), dtype=np.float32))
    page = here / "plotly.html"
    command = [peer, "-c", PEER, str(here / "series.npz"), str(page)]
    done, seconds, _ = timed(lambda: subprocess.run(command, capture_output=True, text=True, check=True))
    n_bytes = page.stat().st_size
    print(f"  plotly {done.stdout.strip()}, write_html of the same {TAGS} series, every point, its script inlined:")
    print(f"    {n_bytes / 1000:,.0f} kB: {n_bytes / html.stat().st_size:.0f} times the bytes; written in {seconds:.1f} s wall")
    try:
        peer_first, peer_drawn, peer_busy = shown(browser, page, 1 if n_bytes > 50_000_000 else repeats)
    except Exception as error:  # a browser that gives up is a result
        print(f"    not drawn: {str(error).splitlines()[0][:100]}")
        return
    for what, mine, its in (
        ("first paint", first, peer_first),
        ("all drawn", drawn, peer_drawn),
        ("CPU of the main thread", busy, peer_busy),
    ):
        print(f"    {what} {its:.2f} s: {its / mine:.1f} times")


def many_runs(browser, here, n_runs, repeats):
    """Measure the index of many runs, and the largest of their pages."""
    writing, rng = other("many_runs"), np.random.default_rng(SEED)
    for i in range(n_runs):
        writing.write_run(here / "sweep" / f"run-{i:03}", rng, writing.RATES[i % len(writing.RATES)])
    html = here / "many.html"
    report, written, diagnosed, built = report_and_page(here / "sweep", html)
    largest = max(written.folder.iterdir(), key=lambda page: page.stat().st_size)
    print(f"\n{n_runs} runs of {writing.N_STEPS:,} steps of 8 series: {', '.join(sorted({run.verdict for run in report.runs}))}")
    print(f"  the diagnosis itself: {diagnosed[0]:.2f} s wall, {diagnosed[1]:.2f} s CPU")
    print(f"  all pages: {built[0]:.2f} s wall, {built[1]:.2f} s CPU, {1000 * built[1] / n_runs:.0f} ms CPU a run")
    first, drawn, busy = shown(browser, html, repeats)
    told("size of the index", html.stat().st_size, MOST["index"], "bytes")
    told(f"the largest page of a run, {largest.name}"[:43], largest.stat().st_size, MOST["page"], "bytes")
    told(f"first paint of the index, median of {repeats}", first, MOST["render"], "seconds")
    told("all drawn, and every script has run", drawn, MOST["render"], "seconds")
    told("CPU of the browser's main thread", busy, MOST["render"], "seconds")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a short run and a few of them")
    parser.add_argument("--repeats", type=int, default=5, help="loads of a page in the browser")
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter with plotly and numpy")
    given = parser.parse_args()
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        sys.exit("no Chromium was found")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, Chromium {browser.version}, ", end="")
        print(f"{os.cpu_count()} cores, load {load:.1f} at the start")
        long_run(browser, Path(place), 20_000 if given.small else 1_000_000, given.peer, given.repeats)
        many_runs(browser, Path(place), 8 if given.small else 200, given.repeats)
        browser.close()


if __name__ == "__main__":
    main()
