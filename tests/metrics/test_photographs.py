"""DINOv2 from files of the authors' layout and of transformers': its own forward, and clear words for other files."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from hldm.config import metrics as sections
from hldm.config.weights import check_dinov2_weights
from hldm.errors import UserError
from hldm.metrics import DigitFeatures, DINOv2Features, InceptionFeatures, UnlabelledFeatures, image_metrics

WIDTH, PATCH, LAYERS = 128, 14, 2


def authors_state(seed: int = 0) -> dict[str, Tensor]:
    """A random state dict with the names and shapes of dinov2_vits14_pretrain.pth, but small."""
    generator = Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + 4 * 4, WIDTH),
        "mask_token": (1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for i in range(LAYERS):
        for name, shape in {
            **{f"norm{k}.{part}": (WIDTH,) for k in (1, 2) for part in ("weight", "bias")},
            **{f"ls{k}.gamma": (WIDTH,) for k in (1, 2)},
            "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.qkv.bias": (3 * WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,),
            "mlp.fc1.weight": (4 * WIDTH, WIDTH),
            "mlp.fc1.bias": (4 * WIDTH,),
            "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            "mlp.fc2.bias": (WIDTH,),
        }.items():
            shapes[f"blocks.{i}.{name}"] = shape
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The class token of a vision transformer with layer scale, from the authors' names. x (N, 3, 56, 56)."""
    tokens = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], PATCH).flatten(2).mT
    tokens = torch.cat([state["cls_token"].expand(len(x), -1, -1), tokens], 1) + state["pos_embed"]

    def norm(tokens: Tensor, name: str) -> Tensor:
        return F.layer_norm(tokens, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    def linear(tokens: Tensor, name: str) -> Tensor:
        return F.linear(tokens, state[f"{name}.weight"], state[f"{name}.bias"])

    for i in range(LAYERS):
        block = f"blocks.{i}"
        qkv = linear(norm(tokens, f"{block}.norm1"), f"{block}.attn.qkv")
        q, k, v = qkv.view(len(x), -1, 3, WIDTH // 64, 64).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + state[f"{block}.ls1.gamma"] * linear(mixed, f"{block}.attn.proj")
        hidden = F.gelu(linear(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1"))
        tokens = tokens + state[f"{block}.ls2.gamma"] * linear(hidden, f"{block}.mlp.fc2")
    return norm(tokens, "norm")[:, 0]


@pytest.fixture
def authors_file(tmp_path: Path) -> Path:
    torch.save(authors_state(), tmp_path / "dinov2_tiny.pth")
    return tmp_path / "dinov2_tiny.pth"


def photographs(n: int, channels: int = 3, side: int = 32, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, channels, side, side), generator=Generator().manual_seed(seed), dtype=torch.uint8)


def test_the_authors_weights_give_the_authors_network(
    authors_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hldm.metrics.photographs.DINOV2_SIDE", 56)  # as many patches as the file has positions
    extractor = DINOv2Features(str(authors_file))
    assert capfd.readouterr() == ("", "")
    images = photographs(3, side=56)
    x = (images.float() / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    features, logits = extractor(images)
    assert features.shape == (3, WIDTH)
    assert logits.shape == (3, 0)
    assert torch.allclose(features, by_hand(authors_state(), x), atol=1e-4)
    assert len(extractor.sha256) == 64
    assert not any(p.requires_grad for p in extractor.parameters())


def test_files_of_transformers_give_its_own_forward(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Dinov2Config(hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, image_size=56)
        model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    extractor = DINOv2Features(str(path))
    images = photographs(2, channels=1, side=28)
    # the same picture in colour, resized by Pillow but for its rounding to bytes
    x = F.interpolate(images.float().repeat(1, 3, 1, 1), size=(224, 224), mode="bicubic", antialias=True)
    x = x.clamp(0, 255) / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    with torch.no_grad():
        expected = model(pixel_values=(x - mean) / deviation).last_hidden_state[:, 0]
    assert torch.allclose(extractor(images)[0], expected, atol=1e-5)
    torch.save(load_file(path), tmp_path / "model.pth")
    assert torch.equal(DINOv2Features(str(tmp_path / "model.pth"))(images)[0], extractor(images)[0])


def test_it_works_for_colour_without_a_classifier(authors_file: Path) -> None:
    extractor = DINOv2Features(str(authors_file))
    metrics = image_metrics(photographs(12), None, photographs(14, seed=1), extractor, None, batch_size=7)
    assert metrics["fid"] > 0
    assert 0 <= metrics["coverage"] <= 1
    assert "inception_score" not in metrics
    with pytest.raises(UserError, match=r"28 × 28 .*metrics=inception"):
        image_metrics(photographs(12), None, photographs(14, seed=1), UnlabelledFeatures(), None)


def test_other_files_are_explained(authors_file: Path, tmp_path: Path) -> None:
    for weights in (None, str(tmp_path / "absent.pth")):
        for ask in (check_dinov2_weights, DINOv2Features):
            with pytest.raises(UserError, match=r"dinov2_vits14_pretrain\.pth.*metrics=dinov2 metrics\.weights="):
                ask(weights)
    state = authors_state()
    wrong = tmp_path / "wrong.pth"
    for content in ({"fc.weight": torch.zeros(2)}, {k: v for k, v in state.items() if k != "pos_embed"}):
        torch.save(content, wrong)
        with pytest.raises(UserError, match=r"wrong\.pth does not hold DINOv2's weights \(it has no "):
            check_dinov2_weights(str(wrong))
    # what only loading shows
    for content in (
        {k: v for k, v in state.items() if k != "blocks.1.norm1.bias"},
        state | {"blocks.1.norm1.bias": torch.zeros(3)},
        state | {"register_tokens": torch.zeros(1, 4, WIDTH)},
    ):
        torch.save(content, wrong)
        assert check_dinov2_weights(str(wrong)) == wrong
        with pytest.raises(UserError, match=r"wrong\.pth does not hold DINOv2's weights"):
            DINOv2Features(str(wrong))
    cut = tmp_path / "cut.safetensors"
    save_file(state, cut)
    assert check_dinov2_weights(str(cut)) == cut
    cut.write_bytes(cut.read_bytes()[:-4])
    with pytest.raises(UserError, match="it is cut off"):
        check_dinov2_weights(str(cut))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (tmp_path.joinpath("ran").write_text, ("x",))

    torch.save(authors_state() | {"x": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="does not hold"):
        DINOv2Features(str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_sections_and_extractors_have_the_same_names() -> None:
    pairs = (
        (sections.DigitFeatures, DigitFeatures),
        (sections.UnlabelledFeatures, UnlabelledFeatures),
        (sections.InceptionFeatures, InceptionFeatures),
        (sections.DINOv2Features, DINOv2Features),
    )
    for section, extractor in pairs:
        assert section.name == extractor.name
        assert section.described() is extractor
        assert extractor.preprocessing
    assert len({section.name for section, _ in pairs}) == len(pairs)
