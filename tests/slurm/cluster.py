"""The development cluster as tests use it: commands of SLURM, waiting, and whether it can run here at all."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "slurm" / "dev-cluster"


def script() -> ModuleType:
    """slurm/dev-cluster as a module."""
    loader = SourceFileLoader("dev_cluster", str(SCRIPT))
    module = module_from_spec(spec_from_loader("dev_cluster", loader))  # type: ignore[arg-type]  # there is a loader
    loader.exec_module(module)
    return module


def why_not() -> str | None:
    """Why no cluster can run on this machine, None where one can."""
    module = script()
    try:
        module.check_machine(Path("/tmp"))
    except module.Trouble as trouble:
        return " ".join(str(trouble).split())
    return None


class DevCluster:
    """The cluster that has its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"], "/usr/sbin"])
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Call slurm/dev-cluster."""
        return subprocess.run(
            [sys.executable, SCRIPT, *words, "--folder", self.folder], capture_output=True, text=True, timeout=300
        )

    def call(self, *words: str | Path, check: bool = True, **more: str) -> str:
        """What a command answers on this cluster, with more environment variables."""
        done = subprocess.run(
            [str(word) for word in words],
            env={**self.environment, **more},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert not check or done.returncode == 0, (
            f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        )
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Job → state, of all jobs that the controller remembers; tasks of arrays by <array>_<task>."""
        lines = self.call("squeue", "--states=all", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def state(self) -> str:
        """Nodes, why they are not to be had, jobs, and the controller's last words."""
        log = (self.folder / "slurmctld" / "log").read_text().splitlines()[-40:]
        said = [self.call("sinfo", "--Node", "--long"), self.call("sinfo", "--list-reasons")]
        return "\n".join([*said, self.call("squeue", "--states=all"), *log])

    def detail(self, job: str) -> dict[str, str]:
        """What scontrol says of a job."""
        words = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


def wait_for(happens: Callable[[], object], what: str, seconds: float = 300) -> None:
    """Wait until something is true, and say what did not come."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s not yet: {what}"
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    return bool(script().is_alive(pid))


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that have a folder in their arguments or among their variables."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            about = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if state not in "ZX" and str(folder).encode() in about and int(process.name) != os.getpid():
            found.append(about.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found
