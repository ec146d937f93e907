"""Checkpoints of frameworks and loops, read without PyTorch: the files of fixtures/checkpoints."""

import subprocess
import sys
from pathlib import Path

import pytest

from traindoctor.checkpoints.layouts import read_checkpoint, read_state
from traindoctor.errors import UnreadableInputError

FOLDER = Path(__file__).parents[2] / "fixtures" / "checkpoints" / "layouts"
PARAMETERS = [
    "first.weight", "first.bias", "norm.weight", "norm.bias", "second.weight", "second.bias", "head.weight", "head.bias",
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "prefix", "format", "step", "source", "schedulers"),
    [
        ("loop_60.pt", "", "PyTorch", 60, "global_step", 1),
        ("lightning.ckpt", "net.", "Lightning", 60, "global_step", 1),
        ("nanogpt.pt", "", "PyTorch", 60, "iter_num", 0),
        ("timm.pth.tar", "", "PyTorch", 60, "optimizer state", 0),
    ],
)
def test_layout(file, prefix, format, step, source, schedulers):  # noqa: A002
    found = read_checkpoint(FOLDER / file)
    assert (found.format, found.step, found.step_source, len(found.schedulers)) == (format, step, source, schedulers)
    (optimizer,) = found.optimizers
    assert [one.name for one in optimizer.held] == [prefix + name for name in PARAMETERS]
    assert optimizer.step == 60.0
    assert optimizer.beta2 == 0.999
    assert optimizer.number("lr") == pytest.approx(3e-3, rel=0.9)
    assert optimizer.strangers == optimizer.orphans == ()
    assert found.weights[f"{prefix}first.weight"].shape == (8, 6)
    assert found.weight_dtype == optimizer.second_dtype == "float32"
    assert found.n_parameters == 8 * 6 + 8 + 16 + 64 + 8 + 24 + 3
    assert not found.broken


def test_weights_alone():
    found = read_checkpoint(FOLDER / "weights.pth")
    assert list(found.weights)[:2] == ["first.weight", "first.bias"]
    assert found.optimizers == ()
    assert found.step is None


def test_folder_of_transformers():
    found = read_checkpoint(FOLDER / "checkpoint-60")
    assert found.format == "safetensors and PyTorch and Transformers"
    assert (found.step, found.step_source, found.epoch) == (60, "global_step", 6.0)
    assert found.scaler["scale"] == 65536.0
    assert found.schedulers[0]["last_epoch"] == 60.0
    named = [one.name for one in found.optimizers[0].held]
    assert named == ["first.weight", "", "", "", "second.weight", "", "head.weight", "head.bias"]  # shapes that only one has


def test_two_networks_in_one_file():
    found = read_checkpoint(FOLDER / "game.pt")
    assert [optimizer.place for optimizer in found.optimizers] == ["optG", "optD"]
    assert len(found.weights) == 2 * 11


def test_bfloat16():
    found = read_checkpoint(FOLDER / "bfloat16.pt")
    assert found.weight_dtype == found.optimizers[0].second_dtype == "bfloat16"
    assert 0.0 <= found.optimizers[0].share("rounded_away") <= 1.0


def test_change_between_two():
    state = read_state({name: FOLDER / name for name in ("loop_60.pt", "loop_30.pt")})
    assert [checkpoint.step for checkpoint in state.checkpoints] == [30, 60]
    assert [change.name for change in state.changes if change.second_fell is not None] == PARAMETERS
    assert state.unmoved < 0.1


def test_figures_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for file in ("loop_60.pt", "bfloat16.pt", "tensors.pt"):
        held = torch.load(FOLDER / file, weights_only=True)
        found = read_checkpoint(FOLDER / file)
        for name, tensor in held.get("model", held).items():
            ours = found.weights[name]
            assert ours.shape == tuple(tensor.shape)
            assert ours.dtype == str(tensor.dtype).removeprefix("torch.")
            if tensor.is_floating_point() and tensor.numel():
                exact = tensor.double()
                good = exact[exact.isfinite()]
                assert ours.norm == pytest.approx(good.norm().item(), rel=1e-6)
                assert ours.largest == good.abs().max().item()
                assert (ours.nan, ours.infinite) == (int(exact.isnan().sum()), int(exact.isinf().sum()))
                assert ours.zeros == int((exact == 0).sum())


def test_every_kind_of_optimizer_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    names = ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "ASGD", "Rprop", "Adafactor"]
    for name in names:
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        more = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(torch.optim, name)(model.parameters(), **more)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(5, 4)).square().sum().backward()
            optimizer.step()
        torch.save({"model": model.state_dict(), "opt": optimizer.state_dict(), "step": 3}, tmp_path / "a.pt")
        (found,) = read_checkpoint(tmp_path / "a.pt").optimizers
        assert len(found.with_state) == 4, name
        assert found.strangers == (), name
        assert found.step in (3.0, None), name
        assert not found.only_zeros, name


def test_groups_with_and_without_decay(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 2))
    held = list(model.parameters())
    groups = [{"params": [p for p in held if p.ndim > 1]}, {"params": [p for p in held if p.ndim < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups)
    model(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "opt": optimizer.state_dict()}, tmp_path / "a.pt")
    (found,) = read_checkpoint(tmp_path / "a.pt").optimizers
    assert [one.name for one in found.held] == ["0.weight", "2.weight", "0.bias", "1.weight", "1.bias", "2.bias"]


def test_old_and_new_protocols_of_pickle(tmp_path):
    torch = pytest.importorskip("torch")
    for protocol in (2, 3, 4, 5):
        torch.save({"model": {"w": torch.ones(3)}, "step": 5}, tmp_path / "a.pt", pickle_protocol=protocol)
        assert read_checkpoint(tmp_path / "a.pt").weights["w"].norm == pytest.approx(3**0.5)


@pytest.mark.parametrize("name", ["global_step60", "mp_rank_00_model_states.pt", "__0_0.distcp"])
def test_cut_up_among_processes(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UnreadableInputError, match="cut up among processes"):
        read_checkpoint(tmp_path)


def test_reading_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from traindoctor.checkpoints.layouts import read_checkpoint\n"
        f"print(read_checkpoint(Path({str(FOLDER / 'loop_60.pt')!r})).step)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "60\n"


def test_memory_stays_small(tmp_path):
    """64 MiB of weights are looked at with a few of them in memory."""
    import json
    import struct
    import tracemalloc

    size = 64 * 2**20
    header = json.dumps({"w": {"dtype": "F32", "shape": [4096, size // 4096 // 4], "data_offsets": [0, size]}}).encode()
    file = tmp_path / "model.safetensors"
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + size)
    tracemalloc.start()
    found = read_checkpoint(file)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.weights["w"].zeros == size // 4
    assert most < 16 * 2**20
