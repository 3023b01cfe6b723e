"""Slots, threads, ranks and which of them have which GPU."""

from pathlib import Path
from typing import Any

import pytest

from hldm import machine
from hldm.config.schema import Hardware
from hldm.errors import UserError
from hldm.machine import Allotment, allot, check_compiler


def pretend(monkeypatch: pytest.MonkeyPatch, cores: int, gpus: int = 0, free: int | None = None) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine, "visible_gpus", lambda: tuple(str(i) for i in range(gpus)))
    monkeypatch.setattr(machine, "why_torch_has_no_gpu", lambda: None)


def hardware(device: str = "auto", threads: Any = "auto", slots: Any = "auto", **others: int) -> Hardware:
    return Hardware(device=device, threads=threads, slots=slots, **others)


@pytest.mark.parametrize(
    ("cores", "gpus", "runs", "asked", "slots", "threads"),
    [
        (2, 0, 1, hardware(), 1, 2),
        (2, 0, 2, hardware(), 2, 1),
        (2, 0, 3, hardware(), 1, 2),  # in two slots three runs take as long as four
        (2, 0, 4, hardware(), 2, 1),
        (2, 0, 50, hardware(), 2, 1),
        (1, 0, 3, hardware(), 1, 1),
        (16, 0, 3, hardware(), 3, 4),
        (16, 0, 9, hardware(), 5, 3),
        (16, 0, 99, hardware(), 16, 1),
        (16, 0, 1, hardware(), 1, 4),
        (2, 0, 3, hardware(slots=2), 2, 1),
        (2, 0, 3, hardware(threads=1), 2, 1),
        (16, 2, 9, hardware(), 2, 4),
        (16, 8, 3, hardware("cuda"), 3, 4),
        (16, 8, 9, hardware("cpu"), 5, 3),
        (4, 1, 9, hardware("cuda", slots=3), 3, 1),
        (2, 4, 3, hardware(), 2, 1),  # fewer cores than GPUs: refused once
        (2, 7, 9, hardware("cuda"), 2, 1),
        (16, 2, 9, hardware(runs_per_gpu=3), 6, 2),
        (16, 4, 9, hardware(ranks=2), 2, 4),
        (4, 0, 9, hardware(ranks=2), 2, 1),
        (2, 0, 9, hardware("cpu", ranks=2), 1, 1),
    ],
)
def test_slots_times_threads_fit_the_cores(
    cores: int, gpus: int, runs: int, asked: Hardware, slots: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, cores, gpus)
    allotment = allot(asked, runs)
    assert (allotment.slots, allotment.threads) == (slots, threads)
    assert slots * threads * asked.ranks <= cores


def test_each_slot_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 8, 2)
    allotment = allot(hardware(slots=3), 3)
    assert [allotment.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["0", "1", "0"]
    assert "CUDA_VISIBLE_DEVICES" not in allot(hardware("cpu"), 3).environment(0)


def test_several_runs_share_a_gpu_and_several_ranks_have_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 16, 4)
    shared = allot(hardware(runs_per_gpu=2), 9)
    assert [shared.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(8)] == [*"0123", *"0123"]
    ranks = allot(hardware(ranks=2), 9)
    assert [ranks.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["0,1", "2,3"]
    assert str(ranks) == "2 at a time, each on 2 GPUs with 2 processes of 4 threads"
    with pytest.raises(UserError, match=r"hardware\.ranks=5, .* there are 4"):
        allot(hardware(ranks=5), 1)


def test_no_more_runs_at_once_than_memory_is_there_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 8, free=5 * 2**30)
    assert allot(hardware(), 99, each=2 * 2**30) == Allotment(2, 4, limit=" (memory for 2)")
    assert (
        str(allot(hardware(), 99, each=9 * 2**30)) == "1 at a time (memory for 1), each on the processor with 4 threads"
    )
    assert allot(hardware(), 2, each=2**30) == Allotment(2, 4)
    assert allot(hardware(slots=8), 99, each=2**30).slots == 8  # who types a number means it


def test_a_run_that_was_begun_with_other_threads_keeps_them() -> None:
    assert Allotment(2, 1).environment(0, threads=2)["OMP_NUM_THREADS"] == "2"


def test_gpus_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`hardware=auto` says that it takes the processor, and `hardware=gpu` refuses before any work."""
    pretend(monkeypatch, 8, 2)
    monkeypatch.setattr(machine, "why_torch_has_no_gpu", lambda: "the driver is too old")
    assert allot(hardware(), 3).gpus == ()
    assert "2 GPUs that PyTorch cannot use (the driver is too old)" in capsys.readouterr().out
    with pytest.raises(UserError, match="PyTorch cannot use them: the driver is too old"):
        allot(hardware("cuda"), 3)


def test_torch_is_asked_whether_it_can_use_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    monkeypatch.setattr("sys.executable", str(python))
    assert machine.why_torch_has_no_gpu() == "FileNotFoundError"
    for script, why in (("echo works", None), ("echo a; echo 'no driver' >&2; exit 1", "no driver")):
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        assert machine.why_torch_has_no_gpu() == why


def test_the_users_threads_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert allot(hardware(), 3).threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "8")  # a limit, where slots are asked for
    assert allot(hardware(slots=4), 9) == Allotment(4, 2)


@pytest.mark.parametrize("asked", [hardware(threads=3), hardware(slots=3), hardware(ranks=3)])
def test_more_than_the_cores_is_refused_where_it_was_typed(asked: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 2)
    with pytest.raises(UserError, match="2 cores"):
        allot(asked, 1)


def test_a_compiler_is_asked_for_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no-such-compiler on the path.*hardware.compile=false"):
        check_compiler()
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(UserError, match=r"Python\.h is missing"):
        check_compiler()
    (tmp_path / "Python.h").touch()
    check_compiler()
