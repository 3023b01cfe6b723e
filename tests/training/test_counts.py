"""What is counted without numbers is what a step with numbers does; nothing is changed by it."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hldm.config.compose import compose
from hldm.pipeline.build import build_model
from hldm.training import counts
from hldm.training.counts import count, on_meta
from hldm.training.networks import Way, set_way
from tests.fake_data import noise_digits

DATA = noise_digits(4)
SMALL = ["paths.outputs=/nowhere", "autoencoder.block_channels=[8,16]"]
UNET = ["denoiser.block_channels=[16,16]", "denoiser.head_channels=16"]
KINDS = {
    "kl": [*UNET, "geometry=poincare", "denoiser.stem=gyroplane", "denoiser.attention=hyperbolic_distance"],
    "both": [*UNET, "latent=map_global", "conditioning=text"],
}


def test_the_figures_of_one_layer_are_those_of_the_formula():
    """A linear layer multiplies by its weight forwards and, of the input's gradient and of its own, twice backwards."""
    x = torch.empty(counts.ROWS, 5, device="meta", requires_grad=True)
    layer = nn.Linear(5, 7, device="meta")
    found = counts.counted_module(layer, lambda: [layer(x)])
    assert found.flops == 3 * 2 * 5 * 7
    assert found.parameters == 5 * 7 + 7
    assert found.kept_bytes == 4 * 5  # its input


@contextmanager
def counted():
    """FLOPs of a block, with attention as matrix products: torch does not count the kernel that processors have."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_a_step_with_numbers(kind):
    model = build_model(compose([*SMALL, *KINDS[kind]]), DATA)
    before = {name: (value.clone(), value.device) for name, value in model.state_dict().items()}
    found = count(model)
    for name, value in model.state_dict().items():
        assert value.device == before[name][1]
        assert torch.equal(value, before[name][0])
    assert all(p.grad is None for p in model.parameters())

    images = torch.rand(counts.ROWS, *DATA.image_shape)
    with counted() as counter:
        model.autoencoder.encode(images)
    assert counter.get_total_flops() == counts.ROWS * found.encode_flops
    with counted() as counter:
        encoded = model.autoencoder.encode(images)
        parts = [model.autoencoder.decode(encoded.loc), *(part for part in encoded if part is not None)]
        sum(part.sum() for part in parts).backward()
    assert counter.get_total_flops() == counts.ROWS * found.first_stage.flops
    assert found.first_stage.parameters == found.frozen_parameters
    trained = [*model.denoiser.parameters(), *(p for p in model.conditioning.parameters() if p.requires_grad)]
    assert found.diffusion.parameters == sum(p.numel() for p in trained)
    assert found.diffusion.flops > 0
    assert found.diffusion.kept_bytes > 0


def test_counts_are_the_same_in_whatever_way_the_networks_work():
    model = build_model(compose([*SMALL, *KINDS["kl"]]), DATA)
    before = count(model)
    set_way(model, Way(True, 1, True, True))
    ways = [dict(part.__dict__) for part in model.modules()]
    assert count(model) == before
    for part, way in zip(model.modules(), ways, strict=True):  # the model itself still works in its way
        assert part.__dict__.keys() == way.keys()


def test_a_copy_without_numbers_takes_no_memory_and_shares_nothing():
    layer = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    twin = on_meta(layer)
    assert {tensor.device.type for tensor in (*twin.parameters(), *twin.buffers())} == {"meta"}
    assert {tensor.device.type for tensor in (*layer.parameters(), *layer.buffers())} == {"cpu"}
