"""Features of references on the disk: read again only where they would be computed to the same bits."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from hldm.metrics import FeatureExtractor, image_metrics
from hldm.metrics.references import load_features, save_features


class Counting(FeatureExtractor):
    """The mean of each row of pixels, times a weight. Counts the images it has seen."""

    name, sha256, accuracy, preprocessing = "counting", "none", None, "none"

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight), requires_grad=False)
        self.seen = 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images)
        features = self.weight * images.float().mean((1, 3)) / 255
        return features, features[:, :0]


def noise(n: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 1, 6, 6), generator=Generator().manual_seed(seed), dtype=torch.uint8)


def test_a_second_run_reads_what_the_first_computed(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    computed = first.reference_features(noise(), 8, tmp_path / "references")
    read = second.reference_features(noise(), 8, tmp_path / "references")
    assert (first.seen, second.seen) == (20, 0)
    assert torch.equal(computed, read)
    assert read.dtype == torch.float64
    (file,) = (tmp_path / "references").iterdir()
    assert file.name.startswith("counting-")
    assert file.suffix == ".safetensors"
    assert load_file(file)["features"].dtype == torch.float32  # half the room, no bit lost
    samples = noise(seed=3)
    assert image_metrics(samples, None, noise(), Counting(), None, cache=tmp_path / "references") == image_metrics(
        samples, None, noise(), Counting(), None
    )


def test_whatever_decides_the_features_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Counting().reference_features(noise(), 8, tmp_path)

    def is_read(extractor: Counting, images: Tensor, batch_size: int = 8) -> bool:
        extractor.reference_features(images, batch_size, tmp_path)
        return extractor.seen == 0

    assert is_read(Counting(), noise())
    assert not is_read(Counting(), noise(seed=1))
    assert not is_read(Counting(), noise().view(20, 1, 4, 9))
    assert not is_read(Counting(2.0), noise())
    assert not is_read(Counting(), noise(), batch_size=5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    assert not is_read(Counting(), noise())
    assert is_read(Counting(), noise())
    monkeypatch.setattr(Counting, "preprocessing", "another")
    assert not is_read(Counting(), noise())
    # one that does not say what it does is never kept
    monkeypatch.setattr(Counting, "preprocessing", None)
    before = len(list(tmp_path.iterdir()))
    assert not is_read(Counting(), noise())
    assert not is_read(Counting(), noise())
    assert len(list(tmp_path.iterdir())) == before


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "other"])
def test_a_damaged_file_is_computed_anew(tmp_path: Path, damage: str) -> None:
    expected = Counting().reference_features(noise(), 8, tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    if damage == "other":
        save_file({"features": torch.zeros(20, 6)}, file)
    else:
        changed = {"empty": b"", "cut": content[:-3], "changed": content[:-1] + bytes([content[-1] ^ 1])}
        file.write_bytes(changed[damage])
    again = Counting()
    assert torch.equal(again.reference_features(noise(), 8, tmp_path), expected)
    assert again.seen == 20
    assert file.read_bytes() == content


def test_numbers_that_float32_does_not_hold_are_kept_whole(tmp_path: Path) -> None:
    features = torch.randn(5, 3, generator=Generator().manual_seed(0), dtype=torch.float64)
    save_features(tmp_path / "x.safetensors", features)
    found = load_features(tmp_path / "x.safetensors")
    assert found is not None
    assert torch.equal(found, features)
    assert load_features(tmp_path / "absent.safetensors") is None
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_several_references_are_remembered() -> None:
    extractor = Counting()
    test, validation = noise(seed=0), noise(seed=1)
    for _ in range(3):
        for images in (test, validation):
            extractor.reference_features(images, 8)
    assert extractor.seen == 40
