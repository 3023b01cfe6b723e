"""Reading ahead: large batches in pieces, through little shared memory, which may be missing."""

import pytest
import torch
from torch import Tensor

from hldm.data import ahead
from hldm.data.ahead import read_ahead
from hldm.errors import UserError

EXAMPLE = torch.zeros(3, 2, 2, dtype=torch.uint8)


def read(indices: Tensor, images: Tensor) -> None:
    """Images that are all of their index."""
    images.copy_(indices.view(-1, 1, 1, 1))


def test_large_batches_come_in_pieces_of_little_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "SHARED", 12 * 6 * 4)  # one reader has six places
    shared, share = [], Tensor.share_memory_
    monkeypatch.setattr(Tensor, "share_memory_", lambda self: shared.append(self.shape) or share(self))
    wanted = [torch.arange(30), torch.tensor([7]), torch.arange(50, 72), torch.arange(0), torch.arange(9)]
    for images, indices in zip(read_ahead(read, EXAMPLE, iter(wanted), 1), wanted, strict=True):
        assert torch.equal(images, indices.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, *EXAMPLE.shape))
    assert shared == [(6, 4, 3, 2, 2)]


def test_images_that_are_large_themselves_are_read_less_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.empty(3, 64, 64)
    monkeypatch.setattr(Tensor, "share_memory_", lambda self: self)
    monkeypatch.setattr(ahead, "SHARED", image.numel() * 40)
    assert [
        (tuple(places.shape[:2]), n) for places, n in (ahead._shared(image, 64, readers) for readers in (2, 16))
    ] == [
        ((10, 4), 4),
        ((34, 1), 2),
    ]


def test_missing_shared_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)\nmore")

    monkeypatch.setattr(Tensor, "share_memory_", fail)
    with pytest.raises(UserError, match=r"hardware\.readers=2: .*\(28\)\)\. Type hardware\.readers=0, .*--shm-size=1g"):
        next(read_ahead(read, EXAMPLE, iter([torch.arange(3)]), 2))
