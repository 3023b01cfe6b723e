"""`python -m hldm COMMAND …`."""

import sys

from hldm.start import check_python

if __name__ == "__main__":
    check_python()
    from hldm.commands import main_from_shell

    sys.exit(main_from_shell())
