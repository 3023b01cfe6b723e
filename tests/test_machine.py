"""Slots, threads and GPUs."""

from pathlib import Path
from typing import Any

import pytest

from hldm import machine as resources
from hldm.config.schema import Hardware
from hldm.errors import UserError
from hldm.machine import allot, check_compiler, visible_gpus


def pretend(monkeypatch: pytest.MonkeyPatch, cores: int, gpus: int = 0) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(resources, "cores", lambda: cores)
    monkeypatch.setattr(resources, "visible_gpus", lambda: tuple(str(i) for i in range(gpus)))
    monkeypatch.setattr(resources, "why_torch_has_no_gpu", lambda: None)


def hardware(device: str = "auto", threads: Any = "auto", slots: Any = "auto") -> Hardware:
    return Hardware(device=device, threads=threads, slots=slots)


@pytest.mark.parametrize(
    ("cores", "gpus", "runs", "asked", "slots", "threads"),
    [
        (2, 0, 3, hardware(), 1, 2),
        (1, 0, 3, hardware(), 1, 1),
        (16, 0, 3, hardware(), 3, 4),
        (16, 0, 9, hardware(), 4, 4),
        (16, 0, 1, hardware(), 1, 4),
        (2, 0, 3, hardware(slots=2), 2, 1),
        (2, 0, 3, hardware(threads=1), 2, 1),
        (16, 2, 9, hardware(), 2, 4),
        (16, 8, 3, hardware("cuda"), 3, 4),
        (16, 8, 9, hardware("cpu"), 4, 4),
        (4, 1, 9, hardware("cuda", slots=3), 3, 1),
    ],
)
def test_slots_times_threads_fit_the_cores(
    cores: int, gpus: int, runs: int, asked: Hardware, slots: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, cores, gpus)
    allotment = allot(asked, runs)
    assert (allotment.slots, allotment.threads) == (slots, threads)
    assert slots * threads <= cores


def test_each_slot_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 8, 2)
    allotment = allot(hardware(slots=3), 3)
    assert [allotment.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["0", "1", "0"]
    assert "CUDA_VISIBLE_DEVICES" not in allot(hardware("cpu"), 3).environment(0)


def test_gpus_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`hardware=auto` says that it takes the processor, and `hardware=gpu` refuses before any work."""
    pretend(monkeypatch, 8, 2)
    monkeypatch.setattr(resources, "why_torch_has_no_gpu", lambda: "the driver is too old")
    assert allot(hardware(), 3).gpus == ()
    assert "2 GPUs that PyTorch cannot use (the driver is too old)" in capsys.readouterr().out
    with pytest.raises(UserError, match="PyTorch cannot use them: the driver is too old"):
        allot(hardware("cuda"), 3)


def test_torch_is_asked_whether_it_can_use_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    monkeypatch.setattr("sys.executable", str(python))
    assert resources.why_torch_has_no_gpu() == "FileNotFoundError"
    for script, why in (("echo works", None), ("echo a; echo 'no driver' >&2; exit 1", "no driver")):
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        assert resources.why_torch_has_no_gpu() == why


def test_the_users_threads_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert allot(hardware(), 3).threads == 1


def test_too_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 2)
    with pytest.raises(UserError, match="2 cores"):
        allot(hardware(threads=3), 1)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [(None, ("0", "1")), ("", ()), ("-1", ()), ("1", ("1",)), ("0,-1,1", ("0",)), ("7", ()), ("GPU-ab", ("GPU-ab",))],
)
def test_gpus_as_cuda_sees_them(
    chosen: str | None, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(
        "#!/bin/sh\necho 'GPU 0: H100 (UUID: GPU-ab)'\necho '  MIG 1g'\necho 'GPU 1: H100 (UUID: GPU-cd)'\n"
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if chosen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == expected
    command.write_text("#!/bin/sh\nexit 9\n")
    assert visible_gpus() == ()


def test_cores_are_counted() -> None:
    assert resources.cores() >= 1


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
