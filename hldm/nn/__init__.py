"""Layers on manifolds, which take and return normal coordinates and are Euclidean layers as c → 0; `Condition`."""

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
