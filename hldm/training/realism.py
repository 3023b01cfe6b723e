"""What latent diffusion adds to the reconstruction error to keep images sharp (Esser et al. 2021; Rombach et al. 2022).

A perceptual distance in the features of a trained network, and a discriminator of patches. Both are off by default.

Legend: images x and their reconstructions x̂, (B, C, H, W) in [0, 1].
"""

from importlib.resources import as_file, files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hldm.config import training as config
from hldm.data import Split
from hldm.errors import UserError
from hldm.metrics import DigitClassifier
from hldm.model import LatentModel
from hldm.training import ranks
from hldm.training.randomness import initialised
from hldm.training.stages import FirstStage


class DigitDistance(nn.Module):
    """The distance of Zhang et al. (2018), eq. 1 with weights of 1, in the five layers of the bundled digit classifier.

        d(x, x̂) = Σ_layers mean_positions |φ(x)/|φ(x)| − φ(x̂)/|φ(x̂)||²

    It needs no download, and says nothing of pictures that are not digits. It flatters FID on the features of the same
    network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.classifier = DigitClassifier()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        features = self.classifier.network.layers(torch.cat([x, y]))
        pairs = (F.normalize(layer, dim=1).chunk(2) for layer in features)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).sum()


class LPIPS(nn.Module):
    """The learned perceptual distance of Zhang et al. (2018), eq. 1, with VGG16: what latent diffusion trains with.

        d(x, x̂) = Σ_layers mean_positions ⟨w, (φ(x)/|φ(x)| − φ(x̂)/|φ(x̂)|)²⟩

    The w are version 0.1 of the authors', which torchmetrics carries; φ are VGG16's features behind the last ReLU of
    each of its five blocks. Both are frozen. Grey images count as three equal channels. Sides must be ≥ 16.

    Args:
        backbone: file of torchvision's VGG16 weights, as it downloads them.

    Raises:
        UserError: the file holds something else.
    """

    ENDS = (3, 8, 15, 22, 29)
    """Indices of these ReLUs among the layers of torchvision."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Path) -> None:
        super().__init__()
        # takes seconds to import; only this distance needs it
        from torchvision.models import vgg16

        with torch.device("meta"):  # no memory, and nothing drawn from the global generator
            layers = vgg16().features[: self.ENDS[-1] + 1]
        try:
            state = torch.load(backbone, map_location="cpu", weights_only=True)
            layers.load_state_dict({key: state[f"features.{key}"] for key in layers.state_dict()}, assign=True)
        except (RuntimeError, UnpicklingError, EOFError, KeyError, TypeError) as error:
            raise UserError(
                f"training.first_stage.perceptual_backbone={backbone} does not hold torchvision's VGG16 weights. "
                "Download https://download.pytorch.org/models/vgg16-397923af.pth again, or type "
                "training.first_stage.perceptual_features=digits, which needs no file."
            ) from error
        with as_file(files("torchmetrics") / "functional" / "image" / "lpips_models" / "vgg.pth") as path:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        self.layers = layers
        self.weights = nn.ParameterList(weights[f"lin{k}.model.1.weight"] for k in range(len(self.ENDS)))
        # of images in [−1, 1], as the authors trained the w
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        self.requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        # [0, 1] → [−1, 1] in three channels
        features = (2 * torch.cat([x, y]) - 1 - self.shift) / self.scale
        distances: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            features = layer(features)
            if index in self.ENDS:
                a, b = (features / (features.square().sum(1, keepdim=True) + 1e-8).sqrt()).chunk(2)
                distances.append(F.conv2d((a - b).square(), self.weights[len(distances)]).mean())
        return torch.stack(distances).sum()


class PatchDiscriminator(nn.Sequential):
    """Isola et al. (2017), sized for small images: logits (B, 1, h, w), one per patch of 22 × 22 pixels."""

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 4, 1, 1),
        )


class PatchDiscriminator70(nn.Sequential):
    """Isola et al. (2017) as latent diffusion has it: logits (B, 1, h, w), one per patch of 70 × 70 pixels.

    Weights start from N(0, 0.02²), scales of the normalisation from N(1, 0.02²). It sees images in [−1, 1].
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for k, stride in enumerate((2, 2, 1)):
            before, after = width * 2**k, width * 2 ** (k + 1)
            layers += [
                nn.Conv2d(before, after, 4, stride, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        super().__init__(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                nn.init.normal_(layer.weight, float(isinstance(layer, nn.BatchNorm2d)), 0.02)
        # (biases of convolutions start as torch's do)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(2 * images - 1)


DISCRIMINATORS = {"small": PatchDiscriminator, "patch70": PatchDiscriminator70}


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss for its logits: ½ E[max(0, 1 − D(x))] + ½ E[max(0, 1 + D(x̂))], a scalar."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """λ = |∇ reconstruction|/(|∇ adversarial| + 10⁻⁴), by the decoder's last layer (Esser et al. 2021, eq. 7)."""
    gradients = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (reconstruction, adversarial)]
    ranks.average(gradients)
    ours, theirs = (gradient.norm() for gradient in gradients)
    return (ours / (theirs + 1e-4)).clamp(0, 1e4).detach()


class RealisticFirstStage(FirstStage):
    """Images → autoencoder, with a perceptual and an adversarial term in its loss.

        loss + perceptual_weight · (pixels of an image) · d(x, x̂) − adversarial_weight · λ · E[D(x̂)]

    (1 stands for the pixels of an image where the loss is a mean over them, see `loss_unit` of the autoencoder.)
    The last term comes in at a start step. The discriminator takes a step of its own before each of the autoencoder's,
    on the same reconstructions.

    Args:
        split: the images to train on.
        settings: the section `training.first_stage`; its learning rate is the discriminator's too.
        seed: of batches, noise and the discriminator's initial weights.
        distance: the perceptual distance d; None where it has no weight.
    """

    def __init__(
        self, model: LatentModel, split: Split, settings: config.FirstStage, *, seed: int, distance: nn.Module | None
    ) -> None:
        super().__init__(model, split, seed=seed, batch_size=settings.batch_size)
        self.settings = settings
        self.distance = None if distance is None else distance.to(self.device)
        channels = model.autoencoder.image_shape[0]
        discriminator = initialised(seed, "discriminator", lambda: DISCRIMINATORS[settings.discriminator](channels))
        self.discriminator = discriminator.to(self.device)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=settings.learning_rate, betas=(0.5, 0.9))

    def loss(self, step: int) -> dict[str, Tensor]:
        settings, x = self.settings, self.batch(step)
        terms, fake = self.autoencoder.losses(x, self.noise(step))
        reconstruction = terms["reconstruction"]
        if self.distance is not None:
            terms["perceptual"] = self.autoencoder.loss_unit * self.distance(x, fake)
            reconstruction = reconstruction + settings.perceptual_weight * terms["perceptual"]
            terms["loss"] = terms["loss"] + settings.perceptual_weight * terms["perceptual"]
        if settings.adversarial_weight and step >= settings.adversarial_start:
            terms["discriminator"] = self.train_discriminator(x, fake.detach())
            adversarial = -self.discriminator(fake).mean()
            share = adaptive_weight(reconstruction, adversarial, self.autoencoder.last_layer)
            terms["loss"] = terms["loss"] + settings.adversarial_weight * share * adversarial
            terms["adversarial"] = adversarial
        return terms

    def train_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """One step; its loss before it."""
        loss = hinge_loss(self.discriminator(real), self.discriminator(fake))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
