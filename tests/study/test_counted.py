"""What a plan says of a GPU that is named, from counts, until it is measured."""

import io
import json
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from hldm.config.compose import compose
from hldm.config.gpus import GPUS, gpu_called
from hldm.errors import UserError
from hldm.pipeline import counts
from hldm.run.directory import RunDirectory
from hldm.study import counted
from hldm.study.counted import ask, hours_in_words, measured, needs, print_counted
from hldm.study.plan import make_plan
from tests.edited import edited

STAGE = {"flops": 10**12, "parameters": 10**8, "kept_bytes": 10**8}
COUNTS = {
    "first_stage": STAGE, "diffusion": STAGE, "encode_flops": 10**11, "frozen_parameters": 10**8,
    "images": 10**6, "latent_bytes": 10**10,
}  # fmt: skip
SIZED = ["hardware.gpu_model=a100", "training.diffusion.steps=100000", "training.diffusion.batch_size=100"]


BASE = compose(["paths.outputs=/nowhere", *SIZED])


def config(*overrides):
    return edited(BASE, *overrides)


def test_hours_and_memory_follow_the_counts():
    plain = needs(config(), COUNTS, {})
    steps = 1e12 * 100_000 * 100 / (156e12 * 0.15) / 3600
    encoding = 1e6 * 1e11 / (156e12 * 0.15) / 3600
    assert plain.hours["diffusion"] == pytest.approx(steps + encoding)
    assert plain.memory["diffusion"] == pytest.approx(1e9 + 1e8 * (16 + 4 + 4) + 100 * 1.2e8)
    assert not plain.fitting
    half = needs(config("training.precision=bfloat16"), COUNTS, {})
    assert half.hours["diffusion"] == pytest.approx(steps / 2 + encoding)
    assert half.memory["diffusion"] < plain.memory["diffusion"]
    pieces = needs(config("training.microbatch=10"), COUNTS, {})
    assert pieces.hours["diffusion"] == pytest.approx(4 / 3 * steps + encoding)
    assert pieces.memory["diffusion"] == pytest.approx(1e9 + 1e8 * 24 + 10 * 1.2e8)
    assert needs(config("hardware.recompute=true"), COUNTS, {}).memory["diffusion"] < half.memory["diffusion"]
    assert needs(config(), COUNTS, {"diffusion": 0.3}).hours["diffusion"] == pytest.approx(steps / 2 + encoding)


def test_processes_that_share_a_batch_take_less_time_and_memory_each():
    alone, shared = needs(config(), COUNTS, {}), needs(config("hardware.ranks=4"), COUNTS, {})
    assert shared.hours["diffusion"] == pytest.approx(alone.hours["diffusion"] / 4)
    assert shared.memory["diffusion"] == pytest.approx(1e9 + 1e8 * 24 + 25 * 1.2e8)
    jobs = compose(["hardware=slurm_ddp", "hardware.slurm.nodes=2", "hardware.slurm.tasks_per_node=2", *SIZED])
    assert needs(jobs, COUNTS, {}).hours == pytest.approx(shared.hours)


def test_the_disk_holds_latents_weights_and_states():
    weights, states = 4 * 2e8, 2 * 20 * 1e8
    assert needs(config("training.latent_cache=ram"), COUNTS, {}).disk == weights + states
    assert needs(config("training.latent_cache=auto"), COUNTS, {}).disk == weights + states + 1e10
    short = ["training.latent_cache=auto", "training.diffusion.steps=10"]
    assert needs(config(*short), COUNTS, {}).disk == weights + states
    looked = needs(config("training.latent_cache=ram", "training.validate_every=5"), COUNTS, {})
    assert looked.disk == 2 * weights + states


def test_what_does_not_fit_says_what_does():
    large = {**COUNTS, "diffusion": {**STAGE, "kept_bytes": 10**9}}
    found = needs(config(), large, {})
    rows = found.fitting["diffusion"]
    assert not needs(config(f"training.microbatch={rows}"), large, {}).fitting
    assert needs(config(f"training.microbatch={rows + 1}"), large, {}).fitting
    assert needs(config(), {**COUNTS, "diffusion": {**STAGE, "parameters": 10**10}}, {}).fitting["diffusion"] == 0


@pytest.mark.parametrize(
    ("name", "memory", "model"),
    [
        ("NVIDIA H100 80GB HBM3", 85, "h100"),
        ("NVIDIA H200", 150, "h200"),
        ("NVIDIA A100-SXM4-40GB", 42, "a100_40gb"),
        ("NVIDIA A100-SXM4-80GB", 85, "a100"),
        ("NVIDIA A10", 24, "a10"),
        ("NVIDIA GeForce RTX 4090", 25, "rtx4090"),
        ("NVIDIA RTX A6000", 51, "a6000"),
        ("Tesla V100-SXM2-32GB", 34, "v100"),
        ("Tesla T4", 16, "t4"),
        ("AMD Instinct MI300X", 192, None),
    ],
)
def test_a_gpu_is_known_by_what_its_driver_calls_it(name, memory, model):
    assert gpu_called(name, memory) == model
    assert model is None or GPUS[model].peak("bfloat16") >= GPUS[model].peak("float32")


def test_measured_shares_take_the_place_of_the_assumed_one(tmp_path):
    def ran(name, speed):
        run = RunDirectory.create(tmp_path / "main" / name, config())
        run.update_status(speed={"diffusion": speed})

    ran("a", {"gpu": "a100", "precision": "float32", "mfu": 0.4})
    ran("b", {"gpu": "a100", "precision": "bfloat16", "mfu": 0.3})
    ran("c", {"gpu": "h100", "precision": "float32", "mfu": 0.2})
    assert measured(tmp_path, config()) == {"diffusion": 0.4}
    assert measured(tmp_path, config("training.precision=bfloat16")) == {"diffusion": 0.3}
    assert measured(tmp_path, config("hardware.gpu_model=t4")) == {}


def in_this_process(command, *, input, **options):
    """What a process of its own answers."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(input))
        patch.setattr(sys, "stdout", out)
        counts.main()
    return SimpleNamespace(returncode=0, stdout=out.getvalue(), stderr="")


def test_a_plan_counts_real_networks_once_for_runs_that_take_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(counted.subprocess, "run", in_this_process)
    asked = []
    monkeypatch.setattr(counted, "ask", lambda configs: asked.append(len(configs)) or ask(configs))

    def shown(*grid):
        base = edited(BASE, f"paths.outputs={tmp_path}", "hardware.gpu_model=null")
        plan = make_plan(((), edited(base, *overrides)) for overrides in grid)
        console = Console(file=io.StringIO(), width=400)
        print_counted(plan, console)
        return console.file.getvalue()

    assert shown(["seed=0"], ["seed=1"]) == ""
    assert asked == []
    sized = ["hardware.gpu_model=h100", "denoiser.block_channels=[16,16]", "denoiser.head_channels=16"]
    out = shown([*sized, "seed=0"], [*sized, "seed=1"])
    assert asked == [1]
    assert "and 1 more, each on one H100 (80 GB): first stage 1." in out
    assert "an estimate at 15% of the peak" in out
    assert "2 runs one after the other" in out
    assert json.loads(in_this_process([], input="[]").stdout) == []


@pytest.mark.parametrize("dataset", ["cifar10", "folder"])
def test_no_file_of_a_data_set_is_opened_to_count(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(counts, "build_dataset", None)  # it would fetch, and decode
    small = ["denoiser.block_channels=[16,16]", "denoiser.head_channels=16", "autoencoder.block_channels=[8,16]"]
    more = ["dataset.flips=true"]
    if dataset == "folder":
        for n in range(100):
            (tmp_path / f"{n}.png").write_bytes(b"not opened")
        more += [f"dataset.path={tmp_path}", "metrics.samples=16"]
        more += [f"training.{stage}.batch_size=16" for stage in ("first_stage", "diffusion")]
    found = counts.counted(compose([f"dataset={dataset}", "paths.outputs=/nowhere", *small, *more]))
    assert found["images"] == 2 * {"cifar10": 45_000, "folder": 85}[dataset]
    assert found["latent_bytes"] > found["images"]
    assert found["diffusion"]["flops"] > 0


def test_what_has_to_be_read_to_count_is_said_first(tmp_path, monkeypatch):
    out = io.StringIO()
    said = []
    monkeypatch.setattr(counted, "ask", lambda configs: said.append(out.getvalue()) or [COUNTS for _ in configs])
    for dataset in ("huggingface", "mnist"):
        path = [f"dataset.path={tmp_path}"] if dataset != "mnist" else []
        config = compose([f"dataset={dataset}", "paths.outputs=/nowhere", *SIZED, *path])
        print_counted(make_plan([((), config)]), Console(file=out, width=400))
    assert f"Only its files tell how many images {tmp_path} has: they are looked through first" in said[0]
    assert out.getvalue().count("looked through first") == 1


def test_what_cannot_be_counted_is_said(monkeypatch):
    monkeypatch.setattr(counted.subprocess, "run", lambda *args, **how: SimpleNamespace(returncode=1, stderr="no luck"))
    with pytest.raises(UserError, match="cannot be counted: no luck"):
        ask([config()])


def test_hours_in_words():
    assert [hours_in_words(h) for h in (0.001, 0.5, 3.52, 100)] == ["a minute", "30 minutes", "3.5 hours", "4.2 days"]
