"""How near samples come to the images that were trained on, in figures and in a picture."""

from pathlib import Path

import torch
from torch import Tensor

from hldm.data import Dataset
from hldm.metrics import FeatureExtractor, memorisation, outputs, pixel_memorisation
from hldm.pipeline.pictures import save_grid

COMPARED = 1000
"""Samples and test images whose distances to all training images are measured."""
COLUMNS = 10


def copy_metrics(
    samples: Tensor,
    dataset: Dataset,
    extractor: FeatureExtractor,
    *,
    batch_size: int = 500,
    seed: int = 0,
    cache: Path | None = None,
    picture: Path | None = None,
) -> dict[str, float]:
    """`memorisation` in the extractor's features and in pixels, of the first 1,000 samples and test images.

    Args:
        samples: uint8 (N, C, H, W).
        dataset: its training images are read once.
        extractor: the leading one.
        batch_size: images that the extractor sees at once.
        seed: of the cells of the three-sample test.
        cache: see `FeatureExtractor.reference`.
        picture: where the ten samples that are nearest to a training image are drawn, each above that image.
    """
    drawn, test = samples[:COMPARED], dataset.test.first(COMPARED)
    features = outputs(extractor, drawn, batch_size)[0]
    real = outputs(extractor, test, batch_size)[0]
    found = memorisation(
        features, real, extractor.reference_features(dataset.train.whole(), batch_size, cache), seed=seed
    )
    if picture is not None:
        nearest = found.distances.argsort(stable=True)[:COLUMNS]
        pairs = torch.cat([drawn[nearest], dataset.train.read(found.indices[nearest]).cpu()])
        save_grid(picture, pairs, columns=len(nearest), row_names=["sample", "nearest training image"])
    return found.metrics | pixel_memorisation(drawn, test, dataset.train.chunks()).metrics
