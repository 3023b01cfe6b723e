"""The exceptions that end a command with a paragraph, never with a traceback, and what the system says of disks."""

import errno
import os
from collections.abc import Iterable, Sequence

MOST = 20
"""Problems that are named at once."""


class UserError(ValueError):
    """What was wrong, what is allowed, what to type instead: one short paragraph, or one for each of several problems.

    `hldm.console` prints it and the command exits with status 2. Anything else that is raised is our own bug and keeps
    its traceback.
    """

    def __init__(self, text: str, problems: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.problems = tuple(problems) or (text,)

    @classmethod
    def of(cls, problems: Iterable[str]) -> "UserError":
        """The error that names all of these problems, a line each; what is said twice is said once."""
        distinct = list(dict.fromkeys(problems))
        if len(distinct) == 1:
            return cls(distinct[0])
        lines = [f"{len(distinct)} settings cannot be as they are:", *(f"- {text}" for text in distinct[:MOST])]
        lines += [f"- and {len(distinct) - MOST} more."] if len(distinct) > MOST else []
        return cls("\n".join(lines), distinct)


class BusyError(UserError):
    """Another process works on what was asked for: nothing is wrong, and nothing was done."""


class Stopped(BaseException):
    """What works was asked to stop and has saved what it had done; started again, it goes on from there.

    Like KeyboardInterrupt it is no Exception: who goes on after a failure does not go on after this.
    """


DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EROFS: "the disk can only be read",
    errno.EACCES: "this user may not do that",
}
"""Number of the system's error → what it says to people."""


def disk_error(error: BaseException) -> tuple[int, str | None] | None:
    """Number of the system's error behind another one, and the file, where it is of `DISK`.

    Libraries wrap such an error, or quote its words.
    """
    seen: BaseException | None = error
    while seen is not None:
        for number in DISK:
            if getattr(seen, "errno", None) == number or os.strerror(number) in str(seen):
                return number, getattr(seen, "filename", None)
        seen = seen.__cause__ or seen.__context__
    return None
