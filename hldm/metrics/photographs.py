"""Feature extractors for photographs, from files that the user has: Inception v3 and DINOv2."""

import hashlib
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hldm.config.weights import check_dinov2_weights, check_inception_weights
from hldm.errors import UserError
from hldm.metrics.extractors import FeatureExtractor

DINOV2_SIDE = 224
_NAMES = (
    ("cls_token", "embeddings.cls_token"),
    ("mask_token", "embeddings.mask_token"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
    ("blocks.", "encoder.layer."),
    ("attn.proj", "attention.output.dense"),
    ("ls1.gamma", "layer_scale1.lambda1"),
    ("ls2.gamma", "layer_scale2.lambda1"),
)
"""(the authors' name, transformers' name) of a weight; the last norm apart, see `_as_transformers_names`."""


class InceptionFeatures(FeatureExtractor):
    """torch-fidelity's port of the Inception v3 that the literature's FID is defined by: D = 2048, K = 1008.

    Grey images are repeated over the three channels.

    Args:
        weights: torch-fidelity's file pt_inception-2015-12-05-6726825d.pth; nothing is ever downloaded.

    Raises:
        UserError: no file is named, it is missing, or it does not hold these weights.
    """

    name = "inception"
    accuracy: float | None = None
    preprocessing = "torch-fidelity's: TensorFlow's bilinear resizing to 299 × 299, of mean 128 and deviation 128"

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        # late: it takes seconds to import, and only this extractor needs it
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = check_inception_weights(weights)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            torch.load(path, weights_only=True)  # torch-fidelity would run whatever code the file holds
            self.network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
            )
        except Exception as error:  # a damaged pickle can raise anything
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"metrics.weights={path} does not hold torch-fidelity's Inception weights ({reason}). "
                "Download the file again, or use metrics=digits."
            ) from None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(images.expand(-1, 3, -1, -1))


class DINOv2Features(FeatureExtractor):
    """DINOv2 (Oquab et al. 2023), by which FID agrees with people better than by Inception (Stein et al. 2023).

    Features are the class token behind the last norm: D = 384 (ViT-S/14) or 768 (ViT-B/14); no logits. Images are
    resized to 224 × 224, bicubic and smoothed, as Stein et al. do it; grey ones are repeated over the three channels.

    Args:
        weights: the authors' state dict (.pth) or that of transformers (.safetensors or .pth); nothing is downloaded.

    Raises:
        UserError: no file is named, it is missing, or it does not hold these weights.
    """

    name = "dinov2"
    accuracy: float | None = None
    preprocessing = "bicubic resizing to 224 × 224, antialiased; ImageNet's mean and deviation"
    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        path = check_dinov2_weights(weights)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            self.network = _dinov2(_state(path))
        except Exception as error:  # a damaged pickle can raise anything
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"metrics.weights={path} does not hold DINOv2's weights ({reason}). Download the file again, or use "
                "metrics=inception."
            ) from None
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.float().expand(-1, 3, -1, -1) / 255
        x = F.interpolate(x, size=(DINOV2_SIDE, DINOV2_SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        features = self.network((x - self.mean) / self.deviation).pooler_output
        return features, features[:, :0]


def _state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of one that torch.save wrote. Nothing else is taken from it."""
    try:
        return load_file(path)
    except SafetensorError:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state


def _dinov2(state: dict[str, Tensor]) -> nn.Module:
    """transformers' model with these weights, whose sizes say which one it is. Heads have 64 channels in all of them.

    Raises:
        ValueError: weights are missing or have other shapes.
    """
    from transformers import Dinov2Config, Dinov2Model  # takes seconds to import
    from transformers.utils import logging

    state = _as_transformers_names(state)
    _, positions, width = state["embeddings.position_embeddings"].shape
    patch = state["embeddings.patch_embeddings.projection.weight"].shape[-1]
    config = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer.")),
        num_attention_heads=width // 64,
        image_size=patch * math.isqrt(positions - 1),
        patch_size=patch,
    )
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        # from_pretrained, since it knows the names that other versions gave to weights
        model, found = Dinov2Model.from_pretrained(
            None, config=config, state_dict=state, output_loading_info=True, dtype=torch.float32
        )
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
    if problems := sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"], *found["unexpected_keys"]])):
        raise ValueError(f"{problems[0]} is missing or has another shape")
    network: nn.Module = model
    return network


def _as_transformers_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names of weights → those that transformers writes; a state dict that has them already as it is."""
    if "pos_embed" not in state:
        return state
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for before, after in _NAMES:
            name = name.replace(before, after)
        name = name.replace("norm.", "layernorm.") if name.startswith("norm.") else name
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace("attn.qkv", f"attention.attention.{part}")] = third.clone()
        else:
            renamed[name] = tensor
    return renamed
