"""The commands of SLURM as far as they are used, in a folder that tests put on the path. Nothing runs by itself."""

import os
import re
import stat
from pathlib import Path

COMMANDS = {
    "sbatch": """
[ -e "$D/refusal" ] && { cat "$D/refusal" >&2; exit 1; }
n=$(cat "$D/next"); echo $((n + 1)) > "$D/next"; cp "$1" "$D/$n.sh"; env > "$D/$n.env"
echo "Submitted batch job $n"
""",
    "squeue": """
[ -e "$D/queue" ] || exit 1
cat "$D/queue"
""",
    "sacct": """
[ -e "$D/accounts" ] || exit 1
cat "$D/accounts"
""",
    "scontrol": """
case "$1 $2" in
  "show config") echo "MaxArraySize            = $(cat "$D/array_size")" ;;
  "show partition") cat "$D/partitions" ;;
  "show job") echo "   JobState=$(cat "$D/job_state")" ;;
  "show hostnames") echo localhost ;;
  requeue*) echo "$2" >> "$D/requeued" ;;
  update*) echo "$2 $3" >> "$D/updated" ;;
esac
""",
    "srun": """
while [ "${1#-}" != "$1" ]; do [ "$1" = --output ] && shift; shift; done
exec "$@"
""",
}


class FakeSlurm:
    """Files in `folder` say what the commands answer, and hold what they were given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name, text in COMMANDS.items():
            file = folder / "bin" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"#!/bin/sh\nD='{folder}'\n{text.strip()}\n")
            file.chmod(file.stat().st_mode | stat.S_IXUSR)
        limits = "PartitionName=main Default=YES MaxTime=UNLIMITED\nPartitionName=short Default=NO MaxTime=00:20:00\n"
        self.write(next="100", queue="", array_size="1001", partitions=limits, job_state="RUNNING Reason=None")

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    @property
    def path(self) -> str:
        return f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"

    @property
    def scripts(self) -> dict[int, str]:
        """Job → its batch script."""
        return {int(file.stem): file.read_text() for file in sorted(self.folder.glob("*.sh"))}

    def asked(self, job: int) -> dict[str, str]:
        """What a script asks for."""
        found = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", self.scripts[job], re.MULTILINE)
        return {name: value.strip("'") for name, value in found}

    def requeued(self) -> list[str]:
        file = self.folder / "requeued"
        return file.read_text().split() if file.exists() else []
