"""`python -m hldm COMMAND …`."""

import sys

from hldm.commands import main_from_shell

if __name__ == "__main__":
    sys.exit(main_from_shell())
