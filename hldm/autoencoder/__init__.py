"""Image ⇄ point on the manifold."""

from hldm.autoencoder.base import Autoencoder, Encoded, Losses, TrainableAutoencoder
from hldm.autoencoder.global_kl import GlobalKLAutoencoder, MapGlobalKLAutoencoder
from hldm.autoencoder.kl import KLAutoencoder
from hldm.autoencoder.mlp import MLPAutoencoder
from hldm.autoencoder.published import PublishedAutoencoder
from hldm.autoencoder.variational import VariationalAutoencoder
from hldm.autoencoder.vq import VQAutoencoder

__all__ = [
    "Autoencoder",
    "Encoded",
    "GlobalKLAutoencoder",
    "KLAutoencoder",
    "Losses",
    "MLPAutoencoder",
    "MapGlobalKLAutoencoder",
    "PublishedAutoencoder",
    "TrainableAutoencoder",
    "VQAutoencoder",
    "VariationalAutoencoder",
]
