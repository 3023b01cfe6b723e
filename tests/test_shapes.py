"""The shapes that annotations of geometry, distributions and nn state are those that their tests see."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WRONG = """
import tests.shapes
import torch
from jaxtyping import TypeCheckError
from hldm.distributions import WrappedNormal
from hldm.geometry import Euclidean, PoincareBall, FixedCurvature, means, ops
from hldm.nn import PoincareConv2d

v, ball = torch.zeros(3, 4), PoincareBall(4, FixedCurvature(1.0))
wrong = {
    "a curvature per point": lambda: ops.expmap0(v, torch.ones(3, 1)),
    "points that do not broadcast": lambda: ops.dist(v, v[:2], 1.0),
    "whole numbers": lambda: ops.expmap0(v.long(), 1.0),
    "weights of other points": lambda: means.midpoint(v, torch.ones(1, 2), 1.0),
    "a map without positions": lambda: PoincareConv2d(ball, ball, 1)(v),
    "a number that is a list": lambda: ball.sqdist([0.0] * 4, v),
}
for name, call in wrong.items():
    try:
        call()
    except TypeCheckError:
        print("refused:", name)
"""


def test_the_check_refuses_wrong_shapes() -> None:
    run = subprocess.run([sys.executable, "-c", WRONG], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout.count("refused:") == WRONG.count("lambda:"), run.stdout + run.stderr


@pytest.mark.timeout(1200)
def test_shapes_are_as_annotated() -> None:
    """Runs the tests of the three packages again under the check.

    Properties with a few examples, as shapes do not depend on numbers. Left out: compiled graphs, which cannot be
    checked; and wrong forms, which the check refuses first.
    """
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.shapes", "--hypothesis-profile=shapes"),
            *("tests/geometry", "tests/distributions", "tests/nn"),
            *("-k", "not graph and not compiled and not forms", "-x"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
