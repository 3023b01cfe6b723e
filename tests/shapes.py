"""A pytest plugin, `pytest -p tests.shapes`, that checks the annotations of geometry, distributions and nn at run time.

jaxtyping's import hook puts a check by beartype around every function of these packages. A checked function costs about
twice the time, and torch.compile cannot trace it (`fullgraph=True` fails), so checks are off without this plugin.
"""

import sys

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

PACKAGES = ["hldm.geometry", "hldm.distributions", "hldm.nn"]

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""The type checker; to it an int is a float too, as to mypy."""

assert not [name for name in sys.modules if name.startswith(tuple(PACKAGES))], "load this before hldm"
install_import_hook(PACKAGES, "tests.shapes.checked")
