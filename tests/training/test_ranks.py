"""Two processes that share a run get what one gets: batches, losses, weights, samples. They meet over gloo."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hldm.commands.ranks import run_ranks
from hldm.config.compose import compose
from hldm.errors import UserError
from hldm.paths import CHECKOUT as ROOT
from hldm.run import exits
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity
from hldm.run.ranks import OURS, RENDEZVOUS, Place, place
from hldm.study import job
from tests.pipeline.conftest import TINY

MODEL = """
import sys, torch
from torch import nn
from hldm.training import ranks

class Owner(nn.Module):
    '''Rows go through two networks, with what mixes them in between, before and after.'''
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
        self.scale = nn.Parameter(torch.tensor(0.7))
    @property
    def autoencoder(self):
        return self
    def forward(self, x):
        h = self.encoder(x * self.scale)
        h = self.scale * (h - h.mean(0)) / (h.var(0, unbiased=False) + 1).sqrt()
        y = self.decoder(h) + self.scale * h[:, :2]
        return (y - y.flip(0)).square().mean() + h.square().mean()

def gradients(rows):
    model = Owner()
    ranks.share_networks(model)
    loss = model(torch.randn(rows, 3, generator=torch.Generator().manual_seed(1)))
    loss.backward()
    ranks.average_gradients(model)
    return [float(loss.detach()), *(p.grad.clone() for p in model.parameters())]
"""


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[int, Path]]:
    """`two(code)` runs code in two ranks, after `MODEL`; `folder` is there, and so is the rank `own`."""
    monkeypatch.setattr("hldm.commands.ranks.GRACE", 1.0)

    def run(code: str) -> tuple[int, Path]:
        script = tmp_path / "rank.py"
        body = "\n".join(f"    {line}" for line in code.splitlines())
        script.write_text(
            f"{MODEL}\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\nwith ranks.group() as own:\n{body}\n"
        )
        monkeypatch.setattr("hldm.commands.ranks.WORKER", ("-P", str(script)))
        directory = RunDirectory(tmp_path / "run")
        directory.path.mkdir(exist_ok=True)
        return run_ranks(directory, 2), directory.path

    return run


def test_gradients_are_those_of_one_process(two: Callable[[str], tuple[int, Path]]) -> None:
    """Of networks and of what stands outside of them, with rows that do not divide and with too few of them."""
    numbers = (6, 7, 1)
    status, folder = two(f"torch.save([gradients(rows) for rows in {numbers}], folder / f'{{own.rank}}.pt')")
    assert status == 0
    code: dict[str, object] = {}
    exec(MODEL, code)
    for i, rows in enumerate(numbers):
        expected = code["gradients"](rows)  # type: ignore[operator]  # what MODEL defines
        found = [torch.load(folder / f"{rank}.pt")[i] for rank in range(2)]
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
        torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-7)


def test_what_the_first_rank_knows_all_know(two: Callable[[str], tuple[int, Path]]) -> None:
    status, _ = two("""
import os, sys
assert ranks.size() == 2 and ranks.is_first() == (own.rank == 0)
assert ranks.together(lambda: own.rank + 5) == 5
def refuse():
    raise ValueError('no')
try:
    ranks.together(refuse)
except ValueError as error:
    assert str(error) == 'no'
else:
    raise AssertionError
assert ranks.anywhere(own.rank == 1) and not ranks.anywhere(False)
model = Owner()
with torch.no_grad():
    model.scale.fill_(float(own.rank))
ranks.align(model)
assert model.scale == 0
x = torch.arange(10.).reshape(5, 2)
for part, expected in zip(ranks.divided(lambda rows: (rows + 1, rows.sum(1)), x), (x + 1, x.sum(1))):
    assert torch.equal(part, expected)
ranks.share_networks(model)
with ranks.whole():  # derivatives by what a network is given
    h = x.repeat(1, 2).requires_grad_()
    (own_gradient,) = torch.autograd.grad(model.decoder(h).sum(), h)
assert (own_gradient != 0).any(1).all()
""")
    assert status == 0


def test_each_rank_reads_its_own_rows_of_files(two: Callable[[str], tuple[int, Path]]) -> None:
    status, folder = two("""
import json
from hldm.data import Split
class Files(Split):
    labels = torch.zeros(9, dtype=torch.long)
    def read(self, indices):
        self.seen = [*getattr(self, 'seen', []), *indices.tolist()]
        return indices.to(torch.uint8).view(-1, 1) * torch.tensor([[1, 20]], dtype=torch.uint8)
chosen, split = [torch.arange(5), torch.tensor([7]), torch.tensor([8, 3, 6, 4])], Files()
for indices, images in zip(chosen, ranks.batches(split, iter(chosen)), strict=True):
    assert torch.equal(images, Files().read(indices))
(folder / f'{own.rank}.json').write_text(json.dumps(split.seen))
""")
    assert status == 0
    # a batch with fewer rows than ranks is read by all
    assert [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)] == [
        [0, 1, 7, 8, 3],
        [2, 3, 4, 7, 6, 4],
    ]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("os.kill(os.getpid(), 9)", "rank 1: ended by SIGKILL"),
        ("fail()", "rank 1: ValueError: its own reason"),
    ],
)
def test_a_rank_that_dies_ends_the_others_in_seconds(
    two: Callable[[str], tuple[int, Path]], wrong: str, why: str
) -> None:
    start = time.monotonic()
    status, folder = two(f"""
import os
from hldm.run.directory import RunDirectory
def fail():
    (ranks.scratch() / "run").mkdir()
    with RunDirectory(ranks.scratch() / "run").work():
        raise ValueError("its own reason")
ranks.together(int)
if own.rank == 1:
    {wrong}
while True:
    ranks.anywhere(False)
""")
    assert status == exits.FAILED
    assert time.monotonic() - start < 300  # of which most is the import of torch; ranks wait for each other far longer
    assert why in RunDirectory(folder).status["error"]


def test_places() -> None:
    def of(**variables: str) -> Place:
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("SLURM_")]:
                patch.delenv(name)
            for name in OURS:
                patch.delenv(name, raising=False)
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr("socket.getaddrinfo", known)
            return place()

    def known(host: str, port: None) -> None:
        if not host.startswith(("gpu", "a-")):
            raise socket.gaierror

    assert of() == Place()
    ours = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    met = {"MASTER_ADDR": "a-1", "MASTER_PORT": "29500"}
    assert of(**ours, **met) == Place(3, 4, 1)
    assert of(**ours, **{RENDEZVOUS: "file:///x"}) == Place(3, 4, 1, "file:///x")
    assert of(RANK="0", WORLD_SIZE="1") == Place()
    for wrong in ({"RANK": "4"}, {"RANK": "-1"}, {"RANK": "x"}, {"WORLD_SIZE": "0"}, {"WORLD_SIZE": "²"}):
        with pytest.raises(UserError, match="no place among the processes of a run"):
            of(**ours | met | wrong)
    for wrong in ({"MASTER_ADDR": ""}, {"MASTER_PORT": ""}, {"MASTER_PORT": "x"}, {"MASTER_PORT": "70000"}):
        with pytest.raises(UserError, match="where they meet is not said"):
            of(**ours | met | wrong)
    batch = {"SLURM_JOB_ID": "12", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"}
    assert of(**batch) == Place()  # a script in which nobody else is
    step = {"SLURM_PROCID": "1", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "gpu[01-04,07],x"}
    step |= {"SLURM_STEP_NUM_NODES": "2", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7"}
    assert of(**batch | {"SLURM_STEP_NUM_TASKS": "2"} | step) == Place(1, 2, 0, "tcp://gpu01:20012")
    assert of(**batch | {"SLURM_STEP_NUM_TASKS": "2"} | step, **job.alone()) == Place()
    nodes = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "a-1,a-2"}
    assert of(**batch | step | nodes).rendezvous == "tcp://a-1:20012"
    # a name that the network does not know, as on slurm/dev-cluster: the machine that srun was called on
    nodes["SLURM_STEP_NODELIST"] = "n1,n2"
    assert of(**batch | step | nodes).rendezvous == "tcp://10.0.0.7:20012"
    assert of(**batch | step | nodes | {"SLURM_STEP_NUM_NODES": "1"}).rendezvous == "tcp://127.0.0.1:20012"


def test_compiled_graphs_are_refused() -> None:
    with pytest.raises(UserError, match=r"hardware\.compile=true works for one process"):
        compose(["hardware.compile=true", "hardware.ranks=2"])


def curve(run: RunDirectory) -> dict[tuple[str, int], float]:
    lines = map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines())
    return {(line["stage"], line["step"]): line["loss"] for line in lines}


def stop_at_the_first_line(argv: list[str], environment: dict[str, str], run: RunDirectory) -> None:
    """All ranks are asked to stop, save what they have in one state, and the worker says that it goes on later."""
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as worker:
        while not (run.path / "metrics.jsonl").exists() and worker.poll() is None:
            time.sleep(0.02)
        worker.send_signal(signal.SIGTERM)
        out, _ = worker.communicate(timeout=300)
    assert worker.returncode == exits.STOPPED, out.decode()
    assert run.state == "stopped"


def test_two_ranks_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    """Both stages on balls with a learned curvature, sampling and metrics, stopped and resumed in between.

    Only the first rank leaves anything.
    """
    settings = [*TINY, "geometry=poincare", "curvature=learnable", "training.first_stage.adversarial_weight=0.5"]
    settings += ["training.first_stage.adversarial_start=2", "metrics.likelihood_images=20"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = []
    for size in (1, 2):
        config = compose([*settings, f"hardware.ranks={size}", f"paths.outputs={tmp_path / str(size)}"])
        run = RunDirectory.create(tmp_path / str(size) / "main" / run_identity(config).name, config)
        argv = [sys.executable, "-P", "-m", "hldm", "worker", str(run.path)]
        if size == 2:
            stop_at_the_first_line(argv, environment, run)
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        runs.append(run)
    one, two = runs
    assert curve(one).keys() == curve(two).keys()
    assert list(curve(two).values()) == pytest.approx(list(curve(one).values()), rel=1e-4)
    assert {file.name for file in two.path.iterdir()} == {file.name for file in one.path.iterdir()}
    made = two.snapshot()
    assert (made.state, made.provenance["ranks"]) == ("finished", 2)
    assert "ranks" not in one.snapshot().provenance
    for name, value in one.snapshot().metrics.items():
        if name in ("reconstruction_mse", "curvature_0", "elbo", "elbo_flow"):
            assert made.metrics[name] == pytest.approx(value, rel=1e-3), name


def test_alone_nothing_is_changed() -> None:
    from hldm.training import ranks

    layer = nn.Linear(2, 2)
    ranks.share_rows(layer)
    assert not layer._forward_hooks
    with ranks.group() as own:
        assert own == Place()
        assert ranks.together(lambda: 3) == 3
        assert ranks.anywhere(True)
        ranks.align(layer)
        ranks.average_gradients(layer)
        assert ranks.divided(lambda rows: (rows,), torch.ones(2))[0].sum() == 2
