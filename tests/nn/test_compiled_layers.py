"""torch.compile takes every layer as one graph, also inside an autocast region."""

import pytest
import torch
from test_layers import LAYERS

from hldm.geometry import LearnableCurvature


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("curvature", [0.7, "learnable"])
def test_no_graph_breaks(name: str, curvature: float | str) -> None:
    torch.compiler.reset()
    factory, _, x = LAYERS[name]
    torch.manual_seed(0)
    layer = factory(LearnableCurvature(0.7) if curvature == "learnable" else curvature).eval()
    x = x.float()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-5)
    if curvature != "learnable":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert compiled(x).dtype == torch.float32
