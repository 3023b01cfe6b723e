"""The switch between eager and compiled forms; that both forms of a formula agree is tested beside the formula."""

import torch

from hldm.geometry.forms import compiling, two_forms


def test_the_compiled_form_runs_in_compiled_graphs_only() -> None:
    torch.compiler.reset()
    f = two_forms(eager=lambda x, *, y=1.0: x + y, compiled=lambda x, *, y=1.0: x - y)
    x = torch.arange(3.0)
    assert f(x).equal(x + 1)
    assert f(x, y=2.0).equal(x + 2)
    compiled = torch.compile(lambda x: f(x, y=2.0), fullgraph=True, backend="eager")
    assert compiled(x).equal(x - 2)
    assert f(x).equal(x + 1)
    assert not compiling()
