"""The runs of a study: what they are at, and what can be done with them beside training.

    hldm runs outputs/main                          all runs: state, progress, minutes, where, what went wrong
    hldm runs outputs/main state=failed,lost        those in these states
    hldm runs show outputs/main/<run id>            all that is known of one
    hldm runs logs outputs/main/<run id> -f         what it wrote; -f goes on as it writes
    hldm runs cancel outputs/main state=pending     end what works and what waits, here and in SLURM
    hldm runs retry outputs/main                    mark what failed, was cancelled or lost to be done again
    hldm runs clean outputs/main yes=true           delete what failed or was cancelled, and what nobody uses
    hldm runs sync outputs/main at_once=8           upload runs that were kept offline to Weights & Biases

States are read from the run directories, and from SLURM where a run is a job: finished, running, pending (in the
queue), stopped (its state is saved), failed, cancelled, lost (its job is gone without a word), broken off (its process
is), new, damaged. Nothing is deleted without yes=true, and nothing that another run uses.

    hldm runs [ls|show|logs|cancel|retry|clean|sync] <study folder, run directory or pattern> [state=<state>,…]
"""

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hldm import console
from hldm.errors import UserError
from hldm.files import in_words
from hldm.paths import expanded
from hldm.run.directory import RunDirectory
from hldm.study import ledger, upkeep
from hldm.study.ledger import STATES, Entry


def states(text: str) -> list[str]:
    """States with commas between them."""
    chosen = [part.strip().replace("_", " ") for part in text.strip("[]").split(",")]
    for state in chosen:
        if state not in STATES:
            guess = console.closest(state, STATES)
            hint = f" Did you mean {guess}?" if guess else ""
            raise ValueError(f"{state!r} is no state.{hint} States: {', '.join(STATES)}.")
    return chosen


def several(text: str) -> int:
    """A whole number ≥ 1."""
    if (number := console.whole(text)) < 1:
        raise ValueError("it must be 1 or more.")
    return number


def main(argv: list[str]) -> int | None:
    """Answer `hldm runs …`."""
    if {"-h", "--help"} & set(argv):
        print(console.here((__doc__ or "").strip()))
        return None
    rest = list(argv)
    verb = next((word for word in rest[:2] if word in VERBS), None)
    if verb is not None:
        rest.remove(verb)
    verb = verb or "ls"
    follows = bool({"-f", "--follow"} & set(rest))
    if follows and verb != "logs":
        raise UserError(f"-f has no effect on {verb}: it follows what a run writes, as in hldm runs logs <run> -f.")
    rest = [word for word in rest if word not in ("-f", "--follow")]
    if len(names := [word for word in rest if _with_key(word) != word]) > 1:
        raise UserError(
            f"{' '.join(names)}: one of these is a folder, a run, or a pattern in quotes, and only one can be. What is "
            f"done with it is {', '.join(VERBS)}."
        )
    arguments = console.key_values(
        [_with_key(word) for word in rest],
        {"runs": str, **({"state": states} if verb != "show" else {}), **KEYS.get(verb, {})},
        usage=__doc__ or "",
        required=("runs",),
    )
    arguments["follow"] = follows
    runs = RunDirectory.find(arguments["runs"])
    if not runs:
        raise UserError(
            f"{arguments['runs']} names no runs. Name a folder of run directories, such as outputs/main, one of them, "
            "or a pattern in quotes."
        )
    entries = upkeep.filtered(ledger.read(runs), arguments.get("state"))
    return VERBS[verb](entries, arguments)


def _with_key(word: str) -> str:
    # a folder may have = in its name
    is_runs = not word.startswith("-") and ("=" not in word or expanded(word).exists())
    return f"runs={word}" if is_runs else word


def ls(entries: Sequence[Entry], arguments: Mapping[str, Any]) -> None:
    """The table; as wide as the terminal, 80 columns where there is none."""
    width = max(60, shutil.get_terminal_size((80, 24)).columns)
    print("\n".join(ledger.lines(entries, width)))


def show(entries: Sequence[Entry], arguments: Mapping[str, Any]) -> None:
    """All that is known of each."""
    for entry in entries:
        print("\n".join(_facts(entry)))


def _facts(entry: Entry) -> list[str]:
    status = entry.status
    seconds = status.get("seconds") or {}
    times = ", ".join(f"{stage.replace('_', ' ')} {spent:.0f} s" for stage, spent in seconds.items())
    held = f"{entry.holder}, since {entry.holder.taken}" if entry.holder else ""
    job = f"{entry.job} {entry.job_state.lower()}".strip() if entry.job else ""
    files = upkeep.logs(entry) if entry.state != "damaged" else []
    facts = {
        "state": f"{entry.state}: {STATES[entry.state]}",
        "trouble": entry.trouble,
        "progress": entry.progress,
        "at work": held,
        "job": job,
        "started": status.get("started"),
        "ended": status.get("ended"),
        "minutes": entry.minutes,
        "stages": times,
        "command": status.get("command"),
        "log": files[-1] if files else None,
        "folder": entry.run.path,
    }
    return [entry.name, *(f"  {name:9} {fact}" for name, fact in facts.items() if fact not in (None, "")), ""]


def logs(entries: Sequence[Entry], arguments: Mapping[str, Any]) -> None:
    """What runs and their jobs wrote; with -f as it is written, until Ctrl-C."""
    files = [file for entry in entries for file in upkeep.logs(entry)]
    if not files and not arguments["follow"]:
        raise UserError("None of these runs has written a log yet: log.txt of the run, or its job's output.")
    read: dict[Path, int] = {}
    while True:
        for file in files:
            with file.open("rb") as content:
                content.seek(read.get(file, 0))
                new = content.read()
            if new:
                if len(files) > 1 and list(read)[-1:] != [file]:
                    print(f"--- {file}")
                # what was written last stands last in the order, so that its name is not repeated
                read[file] = read.pop(file, 0) + len(new)
                print(new.decode("utf-8", "replace"), end="", flush=True)
        if not arguments["follow"]:
            return
        time.sleep(0.5)
        files = [file for entry in entries for file in upkeep.logs(entry)]


def cancel(entries: Sequence[Entry], arguments: Mapping[str, Any]) -> None:
    """End what works and what waits."""
    for line in upkeep.cancel(entries):
        print(line, flush=True)
    for line in upkeep.cancel_first_stages(entries, _every(entries)):
        print(line, flush=True)


def retry(entries: Sequence[Entry], arguments: Mapping[str, Any]) -> None:
    """Mark what did not finish to be done again."""
    for line in upkeep.retry(entries):
        print(line, flush=True)


def clean(entries: Sequence[Entry], arguments: Mapping[str, Any]) -> int:
    """Show what can be deleted, and delete it where that was said; 1 where something could not be."""
    found, status = list(upkeep.waste(entries, _outputs(entries), _every(entries))), 0
    wasted = [item for item in found if isinstance(item, upkeep.Waste)]
    for item in found:
        print(item if isinstance(item, str) else item.words)
    total = in_words(sum(item.size for item in wasted))
    if not wasted:
        print("There is nothing to delete.")
    elif not arguments.get("yes"):
        print(f"{total} can be deleted. The same command with yes=true does it.")
    else:
        kept = [sentence for item in wasted if (sentence := upkeep.delete(item))]
        print("\n".join([*kept, f"{len(wasted) - len(kept)} of {len(wasted)} deleted, of {total}."]))
        status = int(bool(kept))
    return status


def _outputs(entries: Sequence[Entry]) -> Path:
    """The folder of studies in which these runs lie."""
    return upkeep.outputs_of(entries[0].run) if entries else Path()


def _every(entries: Sequence[Entry]) -> list[RunDirectory]:
    """The runs of all studies beside this one, and its own."""
    return [RunDirectory(file.parent) for file in sorted(_outputs(entries).glob("*/*/config.yaml"))
            if file.parent.parent.name != "first_stages"]  # fmt: skip


def sync(entries: Sequence[Entry], arguments: Mapping[str, Any]) -> int:
    """Upload what is offline; 1 where something did not arrive."""
    from hldm.tracking.sync import check_key, unsent
    from hldm.tracking.sync import sync as send

    at_work = [entry.name for entry in entries if entry.state == "running" and unsent(entry.run.path)]
    folders = [entry.run.path for entry in entries if entry.state != "running"]
    folders += [folder for folder in sorted((_outputs(entries) / "first_stages").glob("*")) if folder.is_dir()]
    folders = [folder for folder in folders if unsent(folder)]
    if at_work:
        print(f"{len(at_work)} runs are at work, and are uploaded when they have ended: {', '.join(at_work[:5])}")
    if not folders:
        print("Nothing is left to upload.")
        return 0
    check_key()
    failed = 0
    for upload in send(folders, arguments.get("at_once", 4)):
        failed += bool(upload.error)
        print(f"{upload.folder.name}: {'NOT uploaded: ' + upload.error if upload.error else 'uploaded'}", flush=True)
    if failed:
        print(f"{failed} of {len(folders)} did not arrive. The same command sends what is missing.", file=sys.stderr)
    return int(bool(failed))


Verb = Callable[[Sequence[Entry], Mapping[str, Any]], int | None]

VERBS: dict[str, Verb] = {
    "ls": ls, "show": show, "logs": logs, "cancel": cancel, "retry": retry, "clean": clean, "sync": sync,
}  # fmt: skip

KEYS: dict[str, dict[str, Callable[[str], Any]]] = {"clean": {"yes": console.yes_or_no}, "sync": {"at_once": several}}
"""What each takes beside runs and their states."""
