"""A pytest plugin, `pytest -p tests.shapes`, that checks the annotations of geometry, distributions and nn at run time.

jaxtyping's import hook puts a check by beartype around every function of these packages. A checked function costs about
twice the time, and torch.compile cannot trace it (`fullgraph=True` fails), so checks are off without this plugin.

Of the cases of one test it keeps up to six, evenly spread, as most differ in numbers.
"""

import sys
from collections import defaultdict

import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

PACKAGES = ["hldm.geometry", "hldm.distributions", "hldm.nn"]

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""The type checker; to it an int is a float too, as to mypy."""

assert not [name for name in sys.modules if name.startswith(tuple(PACKAGES))], "load this before hldm"
install_import_hook(PACKAGES, "tests.shapes.checked")


CASES = 6


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        cases[item.nodeid.partition("[")[0]].append(item)
    items[:] = [kept for of_one in cases.values() for kept in of_one[:: -(-len(of_one) // CASES)]]
