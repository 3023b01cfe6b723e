"""What messages tell people to type is accepted: every command and setting that is quoted in them is tried."""

import re
import shlex

import pytest

from hldm.commands import train
from hldm.errors import UserError
from hldm.slurm import submit
from hldm.study import grid, plan

SETTING = r"[a-z_]+(?:[./][a-z_]+)*=(?:'[^']*'|\[[^\]]*\]|[^\s,;]+)"

FILES = "folder|backbone|weights|first_stage|pretrained"
"""Settings whose examples name a file that the reader has."""


def advised(text: str) -> list[list[str]]:
    """The command lines that a message names: those in backquotes, and settings after Type, Try and such as."""
    commands = [shlex.split(found)[2:] for found in re.findall(r"`(python train\.py [^`]*)`", text)]
    for found in re.findall(rf"(?:Type|Try|type|such as|Did you mean|Use|for example) ((?:{SETTING} ?)+)", text):
        commands.append([setting.rstrip(".,;:?)") for setting in shlex.split(found)])
    return [argv for argv in commands if not re.search(rf"[…<]|--help|--cfg|=$|({FILES})=[^n]", " ".join(argv))]


def followed(argv: list[str], advice: list[str]) -> list[str]:
    """The original command with the advice in place of what it replaces."""
    if "-m" in advice:
        return advice
    keys = {part.partition("=")[0].lstrip("+") for part in advice}
    replaced = {key.removesuffix(".value") for key in keys} | keys
    kept = [part for part in argv if part.partition("=")[0].lstrip("+").removesuffix(".value") not in replaced]
    return [*kept, *advice]


class Accepted(Exception):
    """The command came as far as its plan."""


def check_advice(argv: list[str], err: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Try what `err`, the answer to `argv`, tells its reader to type."""

    def accept(*_: object) -> None:
        raise Accepted

    monkeypatch.setattr(plan, "make_plan", accept)
    monkeypatch.setattr(grid, "make_plan", accept)
    monkeypatch.setattr(submit, "make_plan", accept)
    for advice in advised(" ".join(err.split())):
        refused = {}
        for attempt in (followed(argv, advice), advice):
            try:
                with pytest.raises(Accepted):
                    train.main([*attempt, "paths.outputs=outputs"])
                break
            except UserError as error:
                refused[" ".join(attempt)] = str(error)
        else:
            pytest.fail(f"{err}\n advises {advice}, which is refused: {refused}")
