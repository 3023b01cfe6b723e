"""The vector-quantised first stage of latent diffusion, with its codebook on the manifold.

Legend: images (B, C, H, W) in [0, 1]; `v` normal coordinates of the latents, (B, latent channels, h, w), one point per
spatial position, before they are quantised; rows (B·h·w, latent channels), the same points one below the other.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Generator, Tensor, nn

from hldm.autoencoder.base import Encoded, Losses, TrainableAutoencoder
from hldm.autoencoder.convolutional import DrawsImages, ImageDecoder, ImageEncoder, folding_and_sides, map_stem
from hldm.autoencoder.quantizer import Quantizer, perplexity, used
from hldm.config.autoencoder import VQ
from hldm.geometry import Manifold
from hldm.layout import LatentLayout


class VQAutoencoder(DrawsImages, TrainableAutoencoder):
    """Encoder → nearest code → decoder (van den Oord et al. 2017; Esser et al. 2021; Rombach et al. 2022, section 3.1).

        loss = −log p(x | e_k(v)) + Σ_positions commitment_weight · d(v, sg[e_k])² + codebook_weight · d(sg[v], e_k)²

    With `likelihood="l1"` it is latent diffusion's, where means stand in place of sums: |x − x̂| over the numbers of an
    image in [−1, 1], squared distances over the coordinates of a latent. On flat space the model then is VQModel of
    diffusers, and its loss that of `taming/modules/losses/vqperceptual.py`.

    Diffusion sees the points before they are quantised, and the decoder quantises what diffusion gives it: codebook
    and decoder are one. What a geometry changes is the distance that chooses the code and pulls it, the midpoint of a
    running codebook, and, where `decoder_stem` says so, the layer that takes a code into the decoder. As c → 0 it is
    the flat model.

    Args:
        settings: the section `autoencoder`.
        manifold: where one latent point lives, of `settings.latent_channels` channels.
        decoder_stem: the layer that takes a code into the decoder.
        image_shape: (C, H, W).
    """

    def __init__(
        self,
        settings: VQ,
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane"],
        image_shape: tuple[int, ...],
    ) -> None:
        folding, sides = folding_and_sides(settings, image_shape)
        super().__init__(LatentLayout.of_map(manifold, sides), image_shape)
        self.likelihood = settings.likelihood
        channels = settings.latent_channels
        self.encoder = ImageEncoder(settings, folding, channels, double_z=False)
        self.decoder = ImageDecoder(settings, folding, channels)
        self.latent_head = nn.Conv2d(channels, channels, 1)
        self.quantizer = Quantizer(settings, manifold=manifold)
        self.decoder_stem = map_stem(decoder_stem, manifold)

    def encode(self, images: Tensor) -> Encoded:
        """Images → their latents before they are quantised, alone: the encoder is sure of them."""
        return Encoded(self.latent_head(self.encoder(images)))

    def draw(self, encoded: Encoded, generator: Generator | Tensor) -> Tensor:
        """The latents themselves; nothing is drawn."""
        return encoded.loc

    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates of any points → the likelihood's parameters of the pixels at their codes, (B, C, H, W)."""
        return self._decode_rows(self.quantizer(to_rows(v)).v, len(v))

    def losses(self, images: Tensor, generator: Generator) -> Losses:
        """The training loss; `generator` decides where codes are placed. In training mode the codebook is kept up."""
        v = self.encode(images).loc
        rows = to_rows(v)
        if self.training:
            self.quantizer.prepare(rows, generator)
        quantized = self.quantizer(rows)
        logits = self._decode_rows(quantized.v, len(v))
        if self.training:
            self.quantizer.update(rows, quantized.indices)
        if self.likelihood == "l1":
            reconstruction = (logits - (2 * images - 1)).abs().mean()
            quantization = quantized.loss
        else:
            reconstruction = self.negative_log_likelihood(logits, images) / len(images)
            # per coordinate → per image: squared distances add up over positions
            quantization = self.layout.dimension * quantized.loss
        terms = {
            "loss": reconstruction + quantization,
            "reconstruction": reconstruction,
            "quantization": quantization,
            "perplexity": perplexity(self.quantizer.usage(quantized.indices)),
        }
        return Losses(terms, self.mean_of(logits))

    def test_terms(self, images: Tensor, encoded: Encoded, generator: Generator) -> dict[str, Tensor]:
        """How often each code is chosen."""
        return {"usage": self.quantizer.usage(self.quantizer.nearest(to_rows(encoded.loc)))}

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
