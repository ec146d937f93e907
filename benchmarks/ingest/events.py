"""How fast event files are read, against TensorBoard's own two readers, and how much memory that takes.

python benchmarks/ingest/events.py            # all sets of a million events, about ten minutes
python benchmarks/ingest/events.py --large    # and ten million, for the scaling; another 550 MB in the temporary folder
python benchmarks/ingest/events.py --quick    # a tenth of everything, for a look
"""

import argparse
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SEED, N_TAGS = 20110511, 20
RUNS, RUNS_OF_SLOW = 5, 3
CRC_TABLE = np.arange(256, dtype=np.uint32)
for _ in range(8):
    CRC_TABLE = (CRC_TABLE >> 1) ^ (np.uint32(0x82F63B78) * (CRC_TABLE & 1))


# -- the event files --------------------------------------------------------------------------------------------------


def masked_crc(rows):
    """CRC-32C of each row of bytes, masked as TensorFlow's record format wants it: (n,) uint32."""
    crc = np.full(rows.shape[0], 0xFFFFFFFF, dtype=np.uint32)
    for column in rows.T:
        crc = (crc >> 8) ^ CRC_TABLE[(crc ^ column) & 0xFF]
    crc = ~crc
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)


def as_bytes(value, dtype):
    return np.ascontiguousarray(value, dtype=dtype)[:, None].view(np.uint8)


def message(*parts):
    """A field of bytes below 128 in length: key, content, key, content ..."""
    return b"".join(bytes([key, len(content)]) + content for key, content in zip(parts[::2], parts[1::2], strict=True))


METADATA = message(0x4A, message(0x0A, message(0x0A, b"scalars")) + b"\x20\x01")  # with data_class = scalar
NEW_TORCH = message(0x4A, message(0x0A, message(0x0A, b"scalars")))


def body(dialect, tag, first):
    """What stands before and behind the value of a record, behind its step."""
    name = message(0x0A, tag.encode())
    ahead, behind = {
        "v1": (b"\x15", b""),
        "tf2": (b"\x42\x0a\x08\x01\x12\x00\x22\x04", METADATA if first else b""),
        "tf2all": (b"\x42\x0a\x08\x01\x12\x00\x22\x04", METADATA),
        "torchnew": (b"\x42\x08\x08\x01\x2a\x04", NEW_TORCH),
    }[dialect]
    size = len(name) + len(ahead) + 4 + len(behind)
    return bytes([0x2A, size + 2, 0x0A, size]) + name + ahead, behind


def records(dialect, step, wall_time, tag, value, *, first=False):
    """The records of one tag, one row each; all steps have a varint of one length, 0 is left out."""
    n = step.size
    length = 0 if step[-1] == 0 else -(-int(step[-1]).bit_length() // 7)
    varint = np.zeros((n, length), dtype=np.uint8)
    for k in range(length):
        varint[:, k] = (step >> 7 * k & 0x7F) | (0x80 if k < length - 1 else 0)

    def fixed(content):
        return np.broadcast_to(np.frombuffer(content, np.uint8), (n, len(content)))

    ahead, behind = body(dialect, tag, first)
    key = [fixed(b"\x10"), varint] if length else []
    payload = np.hstack([fixed(b"\x09"), as_bytes(wall_time, "<f8"), *key, fixed(ahead), as_bytes(value, "<f4"), fixed(behind)])
    return framed(payload)


def framed(payload):
    header = as_bytes(np.full(payload.shape[0], payload.shape[1]), "<u8")
    return np.hstack([header, as_bytes(masked_crc(header), "<u4"), payload, as_bytes(masked_crc(payload), "<u4")])


VERSION = framed(np.frombuffer(b"\x09" + np.float64(1.7e9).tobytes() + b"\x1a\x0dbrain.Event:2", np.uint8)[None]).tobytes()


def names(n_tags):
    stems = ("train/loss", "train/lr", "grad_norm", "stats/layer_{}/activation", "val/accuracy_{}", "layer_{}/weight_norm")
    return [stems[k % 6].format(k) if "{}" in stems[k % 6] else f"{stems[k % 6]}_{k}" for k in range(n_tags)]


def write_run(folder, n_events, *, dialect="v1", n_tags=N_TAGS, seed=SEED, begin=1.7e9):
    """Write an event file in which each tag has a value at each step."""
    rng = np.random.default_rng(seed)
    tags, n_steps = names(n_tags), n_events // n_tags
    folder.mkdir(parents=True)
    with (folder / "events.out.tfevents.1700000000.benchmark.1.0").open("wb") as stream:
        stream.write(VERSION)
        ends = sorted({0, 1, 1 << 7, 1 << 14, 1 << 21, *range(0, n_steps, max(1, 200_000 // n_tags)), n_steps})
        for start, stop in itertools.pairwise(end for end in ends if end <= n_steps):
            step = np.arange(start, stop)
            rows = []
            for k, tag in enumerate(tags):
                wall_time = begin + 0.05 * step + 0.001 * k
                value = rng.standard_normal(step.size)
                rows.append(records(dialect, step, wall_time, tag, value, first=start == 0))
            stream.write(np.hstack(rows).tobytes())


def histogram(step):
    """A record of a histogram, as SummaryWriter.add_histogram writes it."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

    values = np.random.default_rng(step).standard_normal(1000)
    count, limit = np.histogram(values, bins=np.concatenate([-(1.1 ** np.arange(60, -60, -1)), 1.1 ** np.arange(-60, 60)]))
    held = HistogramProto(
        min=values.min(), max=values.max(), num=1000, sum=values.sum(), sum_squares=(values**2).sum(),
        bucket_limit=limit[1:], bucket=count,
    )  # fmt: skip
    event = Event(wall_time=1.7e9, step=step, summary=Summary(value=[Summary.Value(tag="weights", histo=held)]))
    return framed(np.frombuffer(event.SerializeToString(), np.uint8)[None]).tobytes()


def write_mixed(folder, n_events):
    """Write 100 tags logged at each, each tenth and each hundredth step, and 500 histograms."""
    rng = np.random.default_rng(SEED)
    every = [1] * 30 + [10] * 30 + [100] * 40
    n_steps = int(n_events / sum(1 / k for k in every))
    tags = names(100)
    folder.mkdir(parents=True)
    with (folder / "events.out.tfevents.1700000000.benchmark.1.0").open("wb") as stream:
        stream.write(VERSION)
        ends = [end for end in (1, 1 << 7, 1 << 14, n_steps) if end <= n_steps]
        for start, stop in itertools.pairwise(ends):
            step = np.arange(start, stop)
            blocks = {}
            for stride in (1, 10, 100):
                mine = [tag for tag, k in zip(tags, every, strict=True) if k == stride]
                at = step[step % stride == 0]
                rows = (
                    [records("v1", at, 1.7e9 + 0.05 * at, tag, rng.standard_normal(at.size)) for tag in mine] if at.size else []
                )
                blocks[stride] = dict(zip(at.tolist(), map(bytes, np.hstack(rows)), strict=True)) if rows else {}
            for one in step.tolist():
                stream.write(b"".join(blocks[stride].get(one, b"") for stride in (1, 10, 100)))
                if one % (n_steps // 500) == 0:
                    stream.write(histogram(one))


def write_sets(top, scale, large):
    """Write all sets; return name -> folder, events."""
    n = int(1e6 * scale)
    for dialect in ("v1", "tf2", "tf2all", "torchnew"):
        write_run(top / dialect / "run", n, dialect=dialect)
    write_run(top / "v1 small" / "run", n // 10)
    write_run(top / "1000 tags" / "run", n, n_tags=1000)
    write_mixed(top / "mix" / "run", n)
    for k in range(1000):
        write_run(top / "1000 runs" / f"run{k:04}", n // 1000, seed=k, begin=1.7e9 + 5000.0 * k)
    if large:
        write_run(top / "v1 large" / "run", 10 * n)
    return {folder.name: folder for folder in top.iterdir()}


# -- the readers, each in a process of its own ------------------------------------------------------------------------


def memory(field):
    """A field of /proc/self/status in bytes."""
    with Path("/proc/self/status").open() as stream:
        return next(int(line.split()[1]) * 1024 for line in stream if line.startswith(field))


def load(reader, folder):
    """Read all files of a folder and print what that cost, imports excluded."""
    files = sorted(Path(folder).rglob("*tfevents*"))
    if reader == "traindoctor":
        from traindoctor.readers.events import read_event_files

        def read():
            return read_event_files([(file, file.name) for file in files])

        def count(logs):
            return sum(len(series) for log in logs for series in log.series)
    else:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        def read():
            found = [EventAccumulator(str(file), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0}) for file in files]
            for accumulator in found:
                accumulator.Reload()
            return found

        def count(found):
            return sum(len(a.Scalars(tag)) for a in found for tag in a.Tags()["scalars"]) + sum(
                len(a.Tensors(tag)) for a in found for tag in a.Tags()["tensors"]
            )

    gc.collect()
    before, cpu, wall = memory("VmRSS"), time.process_time(), time.perf_counter()
    found = read()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = memory("VmHWM") - before
    gc.collect()
    kept = memory("VmRSS") - before
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak, "kept": kept, "events": count(found)}))


def run_child(reader, folder):
    """The figures of one reading in a fresh process, with those of the whole process."""
    begin = time.perf_counter()
    command = [sys.executable, __file__, "--load", reader, str(folder)]
    # No reader multiplies matrices: the threads that OpenBLAS starts with NumPy are left out of both.
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{reader} failed on {folder}")
    return json.loads(printed) | {"process": usage.ru_utime + usage.ru_stime, "process wall": time.perf_counter() - begin}


def run_rust(folder):
    """The figures of TensorBoard's data server, which keeps every point and checks no data checksum."""
    import tensorboard_data_server

    command = [
        tensorboard_data_server.server_binary(), "--logdir", str(folder), "--port", "0", "--reload", "once",
        "--samples-per-plugin", "scalars=all,histograms=all,tensors=all", "--verbose",
    ]  # fmt: skip
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    begin = time.perf_counter()
    try:
        for line in server.stderr:
            if "Starting load cycle" in line:
                begin = time.perf_counter()
            if "Finished load cycle" in line:
                break
        wall = time.perf_counter() - begin
        ticks = sum(map(int, Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        status = Path(f"/proc/{server.pid}/status").read_text()
        peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    finally:
        server.kill()
        server.wait()
    return {"cpu": ticks / os.sysconf("SC_CLK_TCK"), "wall": wall, "peak": peak}


def measure(folder, readers, runs):
    """The median figures of each reader, read in turn."""
    found = {reader: [] for reader in readers}
    for turn in range(runs):
        for reader in readers:
            if reader == "EventAccumulator" and turn >= RUNS_OF_SLOW:
                continue
            found[reader].append(run_rust(folder) if reader == "rust" else run_child(reader, folder))
    return {
        reader: {name: statistics.median(one[name] for one in all_runs) for name in all_runs[0]}
        for reader, all_runs in found.items()
    }


def main():
    """Make the files, read them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--sets", nargs="*", help="only these sets")
    parser.add_argument("--no-accumulator", action="store_true", help="leave out the slowest reader")
    parser.add_argument("--data", type=Path, help="keep the files here, and use them when they are there")
    parser.add_argument("--load", nargs=2, metavar=("READER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        load(*options.load)
        return
    with tempfile.TemporaryDirectory() as temporary:
        top = options.data or Path(temporary)
        there = top.exists() and any(top.iterdir())
        sets = {f.name: f for f in top.iterdir()} if there else write_sets(top, 0.1 if options.quick else 1.0, options.large)
        report(sets, options)


def report(sets, options):
    """Measure and print."""
    slow = () if options.no_accumulator else ("EventAccumulator",)
    figures = {}
    print(f"{'set':<12}{'reader':<18}{'cpu s':>8}{'wall s':>8}{'peak MB':>9}{'kept B/event':>14}{'process s':>11}")
    for name in ("v1 small", "v1", "tf2", "tf2all", "torchnew", "mix", "1000 tags", "1000 runs", "v1 large"):
        if name not in sets or (options.sets and name not in options.sets):
            continue
        readers = ("traindoctor", "rust", *(slow if name in ("v1 small", "v1") else ()))
        figures[name] = measure(sets[name], readers, options.runs)
        for reader, one in figures[name].items():
            kept = f"{one['kept'] / one['events']:.0f}" if "kept" in one else ""
            process = f"{one['process']:.2f}" if "process" in one else ""
            row = f"{one['cpu']:>8.3f}{one['wall']:>8.3f}{one['peak'] / 1e6:>9.0f}{kept:>14}{process:>11}"
            print(f"{name:<12}{reader:<18}{row}", flush=True)
    print(f"\n{'ratio':<62}{'measured':>10}{'goal':>8}")
    for title, goal, above, below in RATIOS:
        (a_set, a_reader, figure), (b_set, b_reader) = above, below
        if a_reader in figures.get(a_set, {}) and b_reader in figures.get(b_set, {}):
            print(f"{title:<62}{figures[a_set][a_reader][figure] / figures[b_set][b_reader][figure]:>10.2f}{goal:>8}")


OURS = "traindoctor"
RATIOS = (
    ("one run, CPU: EventAccumulator / ours", ">= 50", ("v1", "EventAccumulator", "cpu"), ("v1", OURS)),
    ("one run, CPU: data server / ours, v1", ">= 2.5", ("v1", "rust", "cpu"), ("v1", OURS)),
    ("one run, CPU: data server / ours, TF2", ">= 3.5", ("tf2", "rust", "cpu"), ("tf2", OURS)),
    ("one run, CPU: data server / ours, TF2, metadata each time", ">= 3.5", ("tf2all", "rust", "cpu"), ("tf2all", OURS)),
    ("one run, CPU: data server / ours, torch's new style", "", ("torchnew", "rust", "cpu"), ("torchnew", OURS)),
    ("one run, CPU: data server / ours, with histograms", "", ("mix", "rust", "cpu"), ("mix", OURS)),
    ("1,000 runs, wall: data server / ours", ">= 1", ("1000 runs", "rust", "wall"), ("1000 runs", OURS)),
    ("1,000 runs, CPU: data server / ours", "", ("1000 runs", "rust", "cpu"), ("1000 runs", OURS)),
    (
        "a tenth, whole process, CPU: EventAccumulator / ours",
        ">= 8",
        ("v1 small", "EventAccumulator", "process"),
        ("v1 small", OURS),
    ),
    ("ten times the events, CPU: ours", "9-11", ("v1 large", OURS, "cpu"), ("v1", OURS)),
    ("1,000 tags / 20 tags, CPU: ours", "<= 1.3", ("1000 tags", OURS, "cpu"), ("v1", OURS)),
    ("1,000 runs / 1 run, CPU: ours", "<= 1.3", ("1000 runs", OURS, "cpu"), ("v1", OURS)),
    ("TF2 / v1, CPU: ours", "<= 1.3", ("tf2", OURS, "cpu"), ("v1", OURS)),
)


if __name__ == "__main__":
    main()
