"""Offline runs of Weights & Biases → the server, several at a time, by wandb's own `sync`.

What has arrived is marked by wandb in its folder, so that the same call later sends only what is missing.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from hldm.errors import UserError

LONGEST = 1800.0
"""Seconds that the upload of one run may take."""


@dataclass(frozen=True)
class Upload:
    """What became of one run's offline segments.

    Attributes:
        folder: the run's, or the first stage's.
        segments: how many there were to send.
        error: the last thing that wandb said; "" where all arrived.
    """

    folder: Path
    segments: int
    error: str


def unsent(folder: Path) -> list[Path]:
    """The offline segments in a run directory that the server has not had."""
    found = sorted((folder / "wandb").glob("offline-run-*"))
    return [segment for segment in found if any(segment.glob("*.wandb")) and not any(segment.glob("*.synced"))]


def check_key() -> None:
    """Raise a UserError where wandb has no key for the server, before any upload is tried."""
    import wandb

    try:
        is_known = wandb.login(prompt=False, verify=False)
    except wandb.Error as error:
        raise UserError(f"The key of Weights & Biases cannot be used: {error}. Type `wandb login --relogin`.") from None
    finally:
        wandb.teardown()
    if not is_known:
        raise UserError("There is no key of Weights & Biases here: type `wandb login` or set WANDB_API_KEY.")


def sync(folders: Sequence[Path], at_once: int) -> Iterator[Upload]:
    """Send what lies in these folders; each as it is done."""
    pending = [(folder, segments) for folder in folders if (segments := unsent(folder))]
    with ThreadPoolExecutor(at_once) as pool:
        for done in as_completed([pool.submit(_send, folder, segments) for folder, segments in pending]):
            yield done.result()


def _send(folder: Path, segments: Sequence[Path]) -> Upload:
    # one call for a run: its segments have one id, and are sent in their order
    command = [sys.executable, "-P", "-m", "wandb", "sync", "--yes", *map(str, segments)]
    environment = {name: value for name, value in os.environ.items() if name not in ("WANDB_MODE", "WANDB_RUN_ID")}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONGEST, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Upload(folder, len(segments), f"no end after {LONGEST / 60:.0f} minutes")
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    # wandb ends with 0 also where an upload failed: what it has marked is what arrived
    is_there = not done.returncode and not unsent(folder)
    return Upload(folder, len(segments), "" if is_there else (said or [f"status {done.returncode}"])[-1])
