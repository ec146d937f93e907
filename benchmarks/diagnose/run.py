"""How long `traindoctor diagnose` takes, whole process, and where the time goes.

python benchmarks/diagnose/run.py            # all cases, about three minutes
python benchmarks/diagnose/run.py --small    # the bundled example only, seconds
"""

import argparse
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "fixtures" / "sick" / "overtrained-perceptron"
N_STEPS, N_TAGS, SEED = 100_000, 30, 545345
COMMAND = [sys.executable, "-c", "import sys; from traindoctor.cli import main; sys.exit(main())"]
PHASES = ("start", "importing", "reading", "measuring", "replaying", "rendering")
CRC_TABLE = np.arange(256, dtype=np.uint32)
for _ in range(8):
    CRC_TABLE = (CRC_TABLE >> 1) ^ (np.uint32(0x82F63B78) * (CRC_TABLE & 1))


# -- the event file ---------------------------------------------------------------------------------------------------


def masked_crc(rows):
    """CRC-32C of each row of bytes, masked as TensorFlow's record format wants it: (n,) uint32."""
    crc = np.full(rows.shape[0], 0xFFFFFFFF, dtype=np.uint32)
    for column in rows.T:
        crc = (crc >> 8) ^ CRC_TABLE[(crc ^ column) & 0xFF]
    crc = ~crc
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)


def as_bytes(value, dtype):
    return np.ascontiguousarray(value, dtype=dtype)[:, None].view(np.uint8)


def records(step, wall_time, tag, value):
    """The records of one tag, one row each, as SummaryWriter.add_scalar writes them; all steps have a varint of one length."""
    n, name = step.size, tag.encode()
    length = max(1, -(-int(step[-1]).bit_length() // 7))
    varint = np.stack([(step >> 7 * i & 0x7F) | (0x80 if i < length - 1 else 0) for i in range(length)], axis=1).astype(np.uint8)

    def fixed(*parts):
        return np.broadcast_to(np.frombuffer(b"".join(parts), np.uint8), (n, sum(map(len, parts))))

    inner = b"\x0a" + bytes([len(name)]) + name + b"\x15"
    summary = fixed(b"\x2a", bytes([len(inner) + 6]), b"\x0a", bytes([len(inner) + 4]), inner)
    payload = np.hstack([fixed(b"\x09"), as_bytes(wall_time, "<f8"), fixed(b"\x10"), varint, summary, as_bytes(value, "<f4")])
    header = as_bytes(np.full(n, payload.shape[1]), "<u8")
    return np.hstack([header, as_bytes(masked_crc(header), "<u4"), payload, as_bytes(masked_crc(payload), "<u4")])


def curves(rng, *, collapses):
    """The series of a run of `N_STEPS` steps: a noisy descent under warmup and cosine, or an exact fit that rises again."""
    t = np.arange(N_STEPS)
    noise = rng.standard_normal((N_TAGS, N_STEPS))
    if collapses:
        climb = np.clip((t - 80_000) / 4_000, 0.0, 1.0)
        level = np.maximum(90.0 * np.exp(-t / 300.0), 5e-12) * 10.0 ** (8.0 * climb)
        made = {"train/loss": level * np.exp(0.3 * noise[0]), "train/lr": np.full(N_STEPS, 1e-4)}
        made["train/grad_norm"] = np.sqrt(2.0 * 2_700.0 * level) * np.exp(0.3 * noise[1])
    else:
        made = {
            "train/loss": (1.2 + 8.0 * (t + 100.0) ** -0.35) * np.exp(0.03 * noise[0]),
            "train/lr": 6e-4 * np.minimum(t / 2_000, 0.5 * (1.0 + np.cos(np.pi * t / N_STEPS))),
            "train/grad_norm": (0.3 + 20.0 / (t + 20.0)) * np.exp(0.2 * noise[1]),
        }
    made["train/weight_norm"] = 30.0 + 1e-4 * t + 1e-3 * noise[2]
    made["val/loss"] = made["train/loss"] * 1.1
    made["val/accuracy"] = 0.7 + 0.01 * noise[4]
    made["data_time"] = 0.01 + 0.001 * np.abs(noise[5])
    for layer in range(11):
        made[f"grad_norm/layer_{layer:02}.weight"] = made["train/grad_norm"] * np.exp(0.1 * noise[7 + layer]) / 3.3
        made[f"weight_norm/layer_{layer:02}.weight"] = 9.0 + 3e-5 * t + 1e-3 * noise[18 + layer]
    while len(made) < N_TAGS:
        made[f"stats/extra_{len(made):02}"] = 1.0 + 0.1 * noise[len(made)]
    return made


def write_events(folder, *, collapses):
    """Write an event file of `N_TAGS` scalars at `N_STEPS` steps, one record each, with the config beside it."""
    rng = np.random.default_rng(SEED)
    step, series = np.arange(N_STEPS), curves(rng, collapses=collapses)
    wall_time = 1.7e9 + 0.05 * step
    logs = folder / "logs"
    logs.mkdir(parents=True)
    lr = 1e-4 if collapses else 6e-4
    (folder / "config.yaml").write_text(f"optimizer:\n  name: Adam\n  lr: {lr}\n  betas: [0.9, 0.999]\n  eps: 1.0e-8\n")
    file = logs / "events.out.tfevents.1700000000.benchmark.1.0"
    with file.open("wb") as stream:
        version = b"\x09" + np.float64(1.7e9).tobytes() + b"\x1a\x0dbrain.Event:2"
        header = np.frombuffer(np.uint64(len(version)).tobytes(), np.uint8)[None]
        rows = np.frombuffer(version, np.uint8)[None]
        stream.write(header.tobytes() + masked_crc(header).tobytes() + version + masked_crc(rows).tobytes())
        ends = [0, 1 << 7, 1 << 14, *range(1 << 14, N_STEPS, 20_000), N_STEPS]
        for start, stop in itertools.pairwise(ends):
            if stop > start:
                at = slice(start, stop)
                stream.write(np.hstack([records(step[at], wall_time[at], k, v[at]) for k, v in series.items()]).tobytes())
    return file


# -- the measurement --------------------------------------------------------------------------------------------------


def whole_process(path, html):
    """Wall and CPU seconds of one `traindoctor diagnose PATH --html FILE`, as the shell would see them."""
    begin = time.perf_counter()
    child = subprocess.Popen(
        [*COMMAND, "diagnose", str(path), "--html", str(html), "--quiet"], stdout=subprocess.DEVNULL, cwd=ROOT
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        sys.exit(f"traindoctor failed with {child.returncode} on {path}")
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime


def inner(path):
    """CPU seconds of each phase, in this process, as JSON: the functions that the command calls, in its order."""
    spent = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def timed(phase):
        begin = time.process_time()
        yield
        spent[phase] += time.process_time() - begin

    with timed("importing"):
        import traindoctor.cli
        import traindoctor.code.order
        import traindoctor.configs.patch
        import traindoctor.replay.cure
        import traindoctor.replay.divergence
        import traindoctor.replay.vital_signs
        import traindoctor.report.html
        import traindoctor.report.text
        from traindoctor import __version__, pipeline
        from traindoctor.model import Report
        from traindoctor.readers.discover import read_runs

        registry = pipeline.load_rules()
    replay = pipeline._replay

    def timed_replay(*arguments):
        with timed("replaying"):
            return replay(*arguments)

    pipeline._replay = timed_replay
    with timed("reading"):
        runs = read_runs(path)
    with timed("measuring"):
        reports = tuple(pipeline.diagnose_run(run, registry.causes) for run in runs)
    spent["measuring"] -= spent["replaying"]
    report = Report(reports, __version__, registry.problems, {code: cause.name for code, cause in registry.causes.items()})
    with timed("rendering"):
        io.StringIO().write(traindoctor.report.html.render_html(report) + traindoctor.report.text.render_text(report))
    print(json.dumps({"phases": spent, "verdict": reports[0].verdict}))


def event_accumulator(file):
    """Seconds that TensorBoard's own reader needs to load every scalar, and how many it found."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    begin = time.process_time()
    accumulator = EventAccumulator(str(file), size_guidance={"scalars": 0})
    accumulator.Reload()
    spent = time.process_time() - begin
    return spent, sum(len(accumulator.Scalars(tag)) for tag in accumulator.Tags()["scalars"])


def measure(name, path, html, repeats):
    """Print one case, and return its median CPU seconds."""
    times = [whole_process(path, html) for _ in range(repeats)]
    wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
    inside = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, __file__, "--inner", str(path)], capture_output=True, text=True, cwd=ROOT, check=True
        )
        inside.append(json.loads(done.stdout))
    phases = {phase: statistics.median(one["phases"][phase] for one in inside) for phase in PHASES}
    phases["start"] = max(0.0, cpu - sum(phases.values()))
    total = sum(phases.values())
    print(f"\n{name}: {inside[0]['verdict']}")
    print(
        f"  whole process: {wall:.2f} s wall, {cpu:.2f} s CPU, median of {repeats} ({html.stat().st_size / 1000:.0f} kB of HTML)"
    )
    for phase, seconds in phases.items():
        label = {"start": "start, exit", "measuring": "measuring, rules"}.get(phase, phase)
        print(f"  {label:<17}{seconds:7.2f} s CPU  {seconds / total:4.0%}")
    return cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="only the bundled example")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--inner", metavar="PATH", help="time the phases of one run in this process and print them as JSON")
    given = parser.parse_args()
    if given.inner:
        inner(given.inner)
        return
    print(
        f"Python {sys.version.split()[0]}, NumPy {np.__version__}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} at the start"
    )
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        measure("overtrained-perceptron, 6,000 steps, 601 points of 4 tags", EXAMPLE, here / "report.html", given.repeats)
        if given.small:
            return
        for kind, collapses in (("a sound run", False), ("a late rise that no replay reproduces", True)):
            begin = time.perf_counter()
            file = write_events(here / kind.replace(" ", "-"), collapses=collapses)
            size = file.stat().st_size / 1e6
            wrote = f"{size:.0f} MB, written in {time.perf_counter() - begin:.1f} s"
            name = f"{kind}, {N_STEPS:,} steps of {N_TAGS} tags ({wrote})"
            cpu = measure(name, file.parents[1], here / "report.html", 3 if collapses else given.repeats)
            if not collapses:
                seconds, n = event_accumulator(file)
                print(
                    f"  EventAccumulator, reading only: {seconds:.1f} s CPU for {n:,} values, {seconds / cpu:.0f} times as long"
                )
            file.unlink()


if __name__ == "__main__":
    main()
