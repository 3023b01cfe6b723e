"""The one exception that is shown to a user as a paragraph, never as a traceback."""


class UserError(ValueError):
    """What was wrong, what is allowed, what to type instead: one short paragraph.

    `hldm.cli` prints it and exits with status 2. Anything else that is raised is our own bug and keeps its traceback.
    """
