"""The one exception that is shown to a user as a paragraph, never as a traceback."""

from collections.abc import Sequence


class UserError(ValueError):
    """What was wrong, what is allowed, what to type instead: one short paragraph, or one for each of several problems.

    `hldm.console` prints it and the command exits with status 2. Anything else that is raised is our own bug and keeps
    its traceback.
    """

    @classmethod
    def of(cls, problems: Sequence[str]) -> "UserError":
        """The error that names all of these problems, a line each."""
        if len(problems) == 1:
            return cls(problems[0])
        return cls("\n".join([f"{len(problems)} settings cannot be as they are:", *(f"- {text}" for text in problems)]))
