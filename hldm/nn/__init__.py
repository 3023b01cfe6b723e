"""Layers on manifolds, which take and return normal coordinates and are Euclidean layers as c → 0.

The models of this package are made of `Gyroplane`, `MobiusLinear`, `PoincareConv2d`, `HyperbolicEmbedding` and
`distance_attention`; `Condition` is what a denoiser is told. The other layers are parts for models of your own:

    PoincareLinear, MobiusConcat, PoincareConvTranspose2d    for a linear layer, a concatenation, a deconvolution
    HyperbolicBatchNorm, HyperbolicRMSNorm                   normalisation
    HyperbolicAttention                                      multi-head attention on sequences of points
    DistanceLayer                                            distances to learned points, for classifiers by prototypes
    ToPoincare, FromPoincare                                 features → points in ball coordinates, and back

`examples/hyperbolic_classifier.py` uses some of them. At c = 0 a layer is its Euclidean counterpart, with the same
initial parameters under the same seed. Layers compute float16 and bfloat16 inputs or parameters in float32, so their
outputs are at least float32; inside autocast, Euclidean layers and those at c = 0 run in its lower precision.
"""

from hldm.nn.attention import HyperbolicAttention, distance_attention
from hldm.nn.condition import Condition
from hldm.nn.conv import PoincareConv2d, PoincareConvTranspose2d
from hldm.nn.convert import FromPoincare, ToPoincare
from hldm.nn.distance import DistanceLayer
from hldm.nn.embedding import HyperbolicEmbedding
from hldm.nn.gyroplane import Gyroplane
from hldm.nn.linear import MobiusConcat, MobiusLinear, PoincareLinear
from hldm.nn.norm import HyperbolicBatchNorm, HyperbolicRMSNorm

__all__ = [
    "Condition",
    "DistanceLayer",
    "FromPoincare",
    "Gyroplane",
    "HyperbolicAttention",
    "HyperbolicBatchNorm",
    "HyperbolicEmbedding",
    "HyperbolicRMSNorm",
    "MobiusConcat",
    "MobiusLinear",
    "PoincareConv2d",
    "PoincareConvTranspose2d",
    "PoincareLinear",
    "ToPoincare",
    "distance_attention",
]
