"""The vector-quantised first stage of latent diffusion, with its codebook on the manifold.

Legend: images (B, C, H, W) in [0, 1]; `v` normal coordinates of the latents, (B, latent channels, h, w), one point per
spatial position, before they are quantised; rows (B·h·w, latent channels), the same points one below the other.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Generator, Tensor, nn

from hldm.autoencoder.base import Autoencoder
from hldm.autoencoder.convolutional import Frame, ImageDecoder, ImageEncoder, latent_shape
from hldm.autoencoder.convolutional import decoder_stem as make_stem
from hldm.autoencoder.quantizer import Quantizer, perplexity, used
from hldm.geometry import Manifold


class QuantizedLosses(NamedTuple):
    """Means over the batch, in nats per image where they are not numbers of codes."""

    loss: Tensor
    reconstruction: Tensor
    quantization: Tensor
    perplexity: Tensor


class VQAutoencoder(Autoencoder):
    """Encoder → nearest code → decoder (van den Oord et al. 2017; Esser et al. 2021; Rombach et al. 2022, section 3.1).

        loss = −log p(x | e_k(v)) + Σ_positions commitment_weight · d(v, sg[e_k])² + codebook_weight · d(sg[v], e_k)²

    Diffusion sees the points before they are quantised, and the decoder quantises what diffusion gives it: codebook
    and decoder are one. What a geometry changes is the distance that chooses the code and pulls it, the midpoint of a
    running codebook, and, where `decoder_stem` says so, the layer that takes a code into the decoder. As c → 0 it is
    the flat model.

    Args:
        latent_channels: coordinates of one latent point.
        block_channels: one entry per level; each level but the last halves the side.
        layers_per_block: ResNet blocks per level.
        patch_size: side of the pixel blocks that are folded into channels, see `KLAutoencoder`.
        padded_side: images are padded with black to this height and width, so that levels and patches divide them.
        codebook_size: see `Quantizer`, as for the next six.
        codebook: "gradient" or "ema".
        commitment_weight: ≥ 0.
        codebook_weight: ≥ 0.
        ema_decay: in [0, 1).
        initial_batches: ≥ 0.
        revive_after: steps, or None.
        manifold: where the latents live; its channels must be `latent_channels`.
        decoder_stem: "linear" or "gyroplane".
        image_shape: (C, H, W) of the images.
    """

    def __init__(
        self,
        latent_channels: int,
        block_channels: list[int],
        layers_per_block: int,
        patch_size: int,
        padded_side: int,
        codebook_size: int,
        codebook: Literal["gradient", "ema"],
        commitment_weight: float,
        codebook_weight: float,
        ema_decay: float,
        initial_batches: int,
        revive_after: int | None,
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane"],
        image_shape: tuple[int, int, int],
    ) -> None:
        frame = Frame(image_shape, patch_size, padded_side)
        super().__init__(manifold, image_shape, latent_shape(frame, block_channels, latent_channels))
        self.encoder = ImageEncoder(frame, latent_channels, block_channels, layers_per_block, double_z=False)
        self.decoder = ImageDecoder(frame, latent_channels, block_channels, layers_per_block)
        self.latent_head = nn.Conv2d(latent_channels, latent_channels, 1)
        self.quantizer = Quantizer(
            manifold,
            codebook_size,
            codebook,
            commitment_weight,
            codebook_weight,
            ema_decay,
            initial_batches,
            revive_after,
        )
        self.decoder_stem = make_stem(decoder_stem, manifold, latent_channels)

    def encode(self, images: Tensor) -> tuple[Tensor]:
        """Images → their latents before they are quantised, alone: the encoder is sure of them."""
        return (self.latent_head(self.encoder(images)),)

    def draw(self, encoded: tuple[Tensor, ...], generator: Generator) -> Tensor:
        """The latents themselves; nothing is drawn."""
        return encoded[0]

    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates of any points → Bernoulli logits of the pixels at their codes, (B, C, H, W)."""
        return self._decode_rows(self.quantizer(to_rows(v)).v, len(v))

    def losses(self, images: Tensor, generator: Generator) -> QuantizedLosses:
        """The training loss; `generator` decides where codes are placed. In training mode the codebook is kept up."""
        (v,) = self.encode(images)
        rows = to_rows(v)
        if self.training:
            self.quantizer.prepare(rows, generator)
        quantized = self.quantizer(rows)
        logits = self._decode_rows(quantized.v, len(v))
        if self.training:
            self.quantizer.update(rows, quantized.indices)
        reconstruction = self.negative_log_likelihood(logits, images) / len(images)
        # per coordinate → per image: squared distances add up over positions
        quantization = math.prod(self.latent_shape) * quantized.loss
        usage = self.quantizer.usage(quantized.indices)
        return QuantizedLosses(reconstruction + quantization, reconstruction, quantization, perplexity(usage))

    def test_terms(self, images: Tensor, encoded: tuple[Tensor, ...], generator: Generator) -> dict[str, Tensor]:
        """How often each code is chosen."""
        return {"usage": self.quantizer.usage(self.quantizer.nearest(to_rows(encoded[0])))}

    def test_figures(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        """codebook_perplexity, and codebook_used, the share of the codes that some test image has."""
        usage = means["usage"]
        return {"codebook_perplexity": float(perplexity(usage)), "codebook_used": float(used(usage))}

    def _decode_rows(self, rows: Tensor, batch: int) -> Tensor:
        channels, height, width = self.latent_shape
        v = rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return self.decoder(self.decoder_stem(v.contiguous()))


def to_rows(v: Tensor) -> Tensor:
    """(B, C, h, w) → (B·h·w, C)."""
    return v.permute(0, 2, 3, 1).flatten(0, 2)
