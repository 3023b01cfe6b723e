"""However a run is disturbed, and how often: started again, it ends as one that nothing happened to, byte for byte."""

import errno
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from hldm import files
from hldm.run import exits, stop
from hldm.run.directory import MODEL, RunDirectory
from hldm.run.identity import first_stage_identity
from hldm.tracking import JsonLines
from hldm.training.checkpoint import before
from tests.pipeline.disturbed import Events, at_evaluation, at_step, kill, prepare, result, said, work

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python 3.12; no thread runs here

KILLS = 24


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """The files of a run that nothing happens to, and how many events it has."""
    outputs = tmp_path_factory.mktemp("undisturbed")
    directory, count = prepare(outputs), outputs / "count"
    count.touch()
    assert work(directory, Events(None, kill, count)) == exits.FINISHED, said(directory)
    assert directory.state == "finished"
    return result(directory), count.stat().st_size


def test_a_run_can_be_killed_at_any_moment(undisturbed: Any, tmp_path: Path) -> None:
    """At random among what it does: steps, parts of the evaluation, and every write, flush, rename and removal."""
    expected, events = undisturbed
    assert events > 200
    moment, killed, runs = random.Random(0), 0, 0
    while killed < KILLS:
        runs += 1
        directory = prepare(tmp_path / str(runs))
        while (status := work(directory, Events(moment.randrange(events // 2), kill))) == -signal.SIGKILL:
            killed += 1
            assert directory.state in ("broken off", "new")
        assert status == exits.FINISHED, said(directory)
        assert directory.state == "finished"
        assert result(directory) == expected
    assert runs > 1


def test_a_run_can_be_killed_at_any_time(undisturbed: Any, tmp_path: Path) -> None:
    """By the clock of the processor, in the middle of whatever it is that moment."""
    expected, _ = undisturbed
    directory, moment = prepare(tmp_path), random.Random(1)
    for _ in range(6):
        seconds = moment.uniform(0.05, 0.5)
        status = work(directory, lambda s=seconds: signal.setitimer(signal.ITIMER_PROF, s))  # type: ignore[misc]  # bound now
        assert status in (-signal.SIGPROF, exits.FINISHED), said(directory)
    assert work(directory) == exits.FINISHED
    assert result(directory) == expected


def test_a_run_can_be_asked_to_stop_as_often_as_one_likes(undisturbed: Any, tmp_path: Path) -> None:
    """In both stages, between them, and in the evaluation; the second time in the same place, too."""
    directory, numbers = prepare(tmp_path), iter(stop.SIGNALS * 2)
    for place in (
        lambda ask: at_step("FirstStage", 3, ask),
        lambda ask: at_step("FirstStage", 11, ask),
        lambda ask: at_step("FirstStage", 29, ask),
        lambda ask: at_step("DiffusionStage", 0, ask),
        lambda ask: at_step("DiffusionStage", 29, ask),
        at_evaluation,
    ):
        number = next(numbers)
        assert work(directory, lambda: place(lambda: signal.raise_signal(number))) == exits.STOPPED, said(directory)  # noqa: B023 - called now
        assert directory.state == "stopped"
        assert f"{number.name}: the run stops as soon as" in said(directory)
        assert "The same command goes on from here." in said(directory)
    assert work(directory) == exits.FINISHED
    assert result(directory) == undisturbed[0]


def no_room(name: str, number: int) -> Any:
    """A disk on which the file of this name, with all that a write of it leaves, finds no room."""

    def disturb() -> None:
        write = files.write_atomically
        log = JsonLines.log

        def refused(path: Path, fill: Any, **options: Any) -> None:
            def full(temporary: Path) -> None:
                temporary.write_bytes(b"half")
                raise OSError(number, os.strerror(number), str(temporary))

            write(path, full if path.name == name else fill, **options)

        def refused_line(lines: JsonLines, *arguments: Any) -> None:
            if lines.path.name == name:
                raise OSError(number, os.strerror(number), str(lines.path))
            log(lines, *arguments)

        for module in ("hldm.files", "hldm.training.checkpoint", "hldm.pipeline.train", "hldm.tracking.jsonlines"):
            __import__(module, fromlist=["_"]).write_atomically = refused
        JsonLines.log = refused_line  # type: ignore[method-assign]  # in a process of its own

    return disturb


PHASES = [
    "metrics.jsonl", "resume.pt", "autoencoder.safetensors", "diffusion.resume.pt", "model.safetensors", "results.json",
]  # fmt: skip
"""Files in the order in which a run writes them."""


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the disk can only be read")]
)
def test_a_full_disk_is_said_and_nothing_is_lost(number: int, words: str, undisturbed: Any, tmp_path: Path) -> None:
    """In every phase, one after the other."""
    directory = prepare(tmp_path)
    for name in PHASES:
        assert work(directory, no_room(name, number)) == exits.FAILED, name
        assert directory.state == "failed", name
        for text in (said(directory), directory.status["error"]):
            assert f"{name} cannot be written or read: {words}" in text, name
        assert "Traceback" not in said(directory)
        assert not list(tmp_path.rglob("*.tmp"))
    assert work(directory) == exits.FINISHED
    assert result(directory) == undisturbed[0]


def test_a_full_disk_that_has_no_room_for_status_json(undisturbed: Any, tmp_path: Path) -> None:
    """The room of the old file is used to say what happened, and the next start goes on."""
    directory = prepare(tmp_path)

    def full_from_the_first_checkpoint() -> None:
        fsync, is_full = os.fsync, False

        def failing(descriptor: int) -> None:
            nonlocal is_full
            is_full = is_full or any(directory.path.parent.parent.rglob(".resume.pt.*"))
            if is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        os.fsync = failing

    assert work(directory, full_from_the_first_checkpoint) == exits.FAILED
    assert "the disk is full" in said(directory)
    assert directory.state == "failed"
    assert "the disk is full" in directory.status["error"]
    assert work(directory) == exits.FINISHED
    assert result(directory) == undisturbed[0]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_file_is_said_and_what_it_held_is_made_again(damage: Any, undisturbed: Any, tmp_path: Path) -> None:
    """Resume states of both stages, the first stage's weights, those of the run: one after the other in one run."""
    directory = prepare(tmp_path)
    [folder] = [tmp_path / "first_stages" / first_stage_identity(directory.config).name]
    state, weights = folder / "resume.pt", folder / "autoencoder.safetensors"
    second = directory.path / "checkpoints" / "diffusion.resume.pt"

    def killed(stage: str, step: int, *damaged: Path) -> str:
        for file in damaged:
            damage(file)
        assert work(directory, lambda: at_step(stage, step, kill)) == -signal.SIGKILL, said(directory)
        for file in damaged:
            assert f"{file} is damaged" in said(directory) or f"{file} are damaged" in said(directory)
        return said(directory)

    assert "damaged" not in killed("FirstStage", 16)
    assert "first_stage goes on from the state before, after step 7" in killed("FirstStage", 20, state)
    killed("FirstStage", 16, state, before(state))
    killed("DiffusionStage", 0)
    assert "are trained again" in killed("DiffusionStage", 16, weights)
    assert "diffusion goes on from the state before, after step 7" in killed("DiffusionStage", 29, second)
    assert work(directory, lambda: at_evaluation(kill)) == -signal.SIGKILL
    damage(directory.path / MODEL)
    assert work(directory) == exits.FINISHED
    assert f"{directory.path / MODEL} are damaged" in said(directory)
    assert result(directory) == undisturbed[0]


@pytest.mark.parametrize("stage", ["first_stage", "diffusion"])
def test_a_run_that_diverges_ends_with_what_to_change_and_does_not_loop(stage: str, tmp_path: Path) -> None:
    rate = f"training.{stage}.learning_rate"
    directory = prepare(tmp_path, f"{rate}=1e30", "training.optimizer.weight_decay=0", "training.log_every=1000")
    for _ in range(2):
        assert work(directory) == exits.FAILED
        assert directory.state == "failed"
        for text in (said(directory), directory.status["error"]):
            assert f"{stage}: " in text
            assert " at step " in text
            assert f"{rate}=" in text
    assert "damaged" not in said(directory)  # nothing that is not finite was kept


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    directory = prepare(tmp_path)

    def killed_in_the_first_checkpoint() -> None:
        save: Any = __import__("torch").save

        def half(*arguments: Any) -> None:
            save(*arguments)
            kill()

        __import__("torch").save = half

    assert work(directory, killed_in_the_first_checkpoint) == -signal.SIGKILL
    assert len(list(tmp_path.rglob("*.tmp"))) == 1
    assert work(directory, lambda: at_step("FirstStage", 1, kill)) == -signal.SIGKILL
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_run_says_that_the_code_has_changed(undisturbed: Any, tmp_path: Path) -> None:
    directory = prepare(tmp_path)
    assert work(directory, Events(60, kill)) == -signal.SIGKILL
    status = directory.status
    directory.update_status(code={**status["code"], "hldm": "0.0.1", "commit": "f" * 40})
    assert work(directory) == exits.FINISHED
    assert "made with hldm 0.0.1 (ffffffff)" in said(directory)
    assert RunDirectory(directory.path).results is not None
    begun = directory.snapshot().provenance["begun_with"]
    assert (begun["hldm"], begun["commit"]) == ("0.0.1", "f" * 40)
