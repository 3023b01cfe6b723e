"""Conditioning by text: captions → features of their tokens, which the denoiser attends to.

Legend: B captions, L tokens, D channels.
"""

import hashlib

import torch
from torch import Generator, Tensor, nn

from hldm.conditioning.base import Conditioning, Guidance, Subjects
from hldm.conditioning.captions import EMPTY, Captions, WordTokenizer
from hldm.conditioning.hyperbolic import GyroplaneStem
from hldm.config import conditioning as config
from hldm.errors import UserError
from hldm.geometry import Curvature
from hldm.nn import Condition


class TextConditioning(Conditioning):
    """A transformer reads the caption, the denoiser attends to its features, as in Stable Diffusion, with guidance.

    Training draws a template for every picture. Where only labels are asked for, as in evaluation, the captions are
    those of the held-out template.

    A trained text model, where the settings name one, is read but not trained. With `settings.hyperbolic` the features
    are points of balls, from which gyroplanes make what the denoiser is given; without it an affine layer of as many
    parameters does.

    Args:
        settings: the section `conditioning`.
        class_names: what captions call each class.
        curvature: of the balls.
    """

    uses_labels = True

    def __init__(
        self, settings: config.TextConditioning, *, class_names: tuple[str, ...], curvature: Curvature | None = None
    ) -> None:
        super().__init__()
        channels = settings.channels
        self.dropout, self.guidance_scale, self.context_channels = settings.dropout, settings.guidance_scale, channels
        self.captions = Captions(settings.templates, settings.held_out, class_names)
        self.template = settings.held_out
        self.encoder: TextEncoder | FrozenTextEncoder
        if settings.pretrained is None:
            tokenizer = WordTokenizer(self.captions.of_training())
            self.encoder = TextEncoder(tokenizer, channels=channels, layers=settings.layers, heads=settings.heads)
        else:
            self.encoder = FrozenTextEncoder(settings.pretrained)
        self.curvature = curvature if settings.hyperbolic else None
        self.stem: nn.Module
        if settings.hyperbolic:
            assert curvature is not None
            self.stem = GyroplaneStem(self.encoder.channels, channels, curvature)
        else:
            self.stem = nn.Linear(self.encoder.channels, channels)

    def for_training(self, labels: Tensor, generator: Generator) -> Condition:
        return self.encode(self.captions.draw(labels, self.dropout, generator))

    def for_sampling(self, subjects: Subjects) -> Guidance:
        captions = self.captions.of(subjects) if isinstance(subjects, Tensor) else subjects
        return Guidance(self.encode(captions), self.encode([EMPTY] * len(captions)), self.guidance_scale)

    def encode(self, captions: list[str]) -> Condition:
        """B captions → their features (B, L, D) and mask. A caption that is there often is read once.

        Raises:
            UserError: a caption that the model cannot read.
        """
        distinct = list(dict.fromkeys(captions))
        place = {caption: k for k, caption in enumerate(distinct)}
        features, mask = self.encoder(distinct)
        # a frozen encoder reads on the CPU
        hidden = self.stem(features.to(next(self.stem.parameters()).device))
        rows = torch.tensor([place[caption] for caption in captions], device=hidden.device)
        # index_select: the gradient of hidden[rows] adds up in an order that changes from run to run
        return Condition(hidden=hidden.index_select(0, rows), mask=mask.to(hidden.device).index_select(0, rows))


class TextEncoder(nn.Module):
    """The text transformer of CLIP (Radford et al. 2021), untrained, on words.

    Args:
        tokenizer: decides the number of tokens and the length of a caption.
        channels: width of the transformer, and of the features.
        layers: of the transformer.
        heads: of its attention, a divisor of `channels`.
    """

    def __init__(self, tokenizer: WordTokenizer, *, channels: int, layers: int, heads: int) -> None:
        super().__init__()
        # transformers takes seconds to import; only text needs it
        from transformers import CLIPTextConfig, CLIPTextModel

        self.tokenizer, self.channels = tokenizer, channels
        self.transformer = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=tokenizer.size,
                hidden_size=channels,
                intermediate_size=4 * channels,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                max_position_embeddings=tokenizer.length,
                bos_token_id=tokenizer.START,
                eos_token_id=tokenizer.END,
                pad_token_id=tokenizer.PADDING,
            )
        )

    def forward(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """B captions → features (B, L, channels) and mask bool (B, L), on the device of the weights."""
        ids, mask = (x.to(self.transformer.device) for x in self.tokenizer(captions))
        return self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state, mask


class FrozenTextEncoder(nn.Module):
    """A trained CLIP text model with its own tokenizer, which is not trained further.

    It reads each caption once, on the CPU. Its weights are no part of the state dict, which holds their digest instead.

    Args:
        name: a folder that `save_pretrained` wrote, with the tokenizer, one of Stable Diffusion, or a name on the hub;
            safetensors only.

    Raises:
        UserError: there is no such model, or its digest is not the one that was trained with.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        from transformers import CLIPTextModel, CLIPTokenizer

        self.name = name
        try:
            words, weights = map(str, config.text_folders(name))
            tokenizer = CLIPTokenizer.from_pretrained(words)
            model = CLIPTextModel.from_pretrained(weights, use_safetensors=True, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise UserError(
                f"conditioning.pretrained={name} cannot be read as a CLIP text model with its tokenizer "
                f"({' '.join(str(error).split())[:200]}). Give a folder with config.json, safetensors and the "
                "tokenizer's files, a name on the hub that can be reached from here, or conditioning.pretrained=null."
            ) from error
        self.channels: int = model.config.hidden_size
        self._frozen = (tokenizer, model.eval().requires_grad_(False))  # in a tuple, and so no submodule
        self._read: dict[str, Tensor] = {}

    def forward(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """B captions → features (B, L, channels), L that of the longest, and mask bool (B, L); on the CPU."""
        rows = [self._features(caption) for caption in captions]
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), mask

    @torch.no_grad()
    def _features(self, caption: str) -> Tensor:
        if caption not in self._read:
            tokenizer, model = self._frozen
            ids = torch.tensor([tokenizer(caption)["input_ids"]])
            if ids.shape[1] > (most := model.config.max_position_embeddings):
                raise UserError(
                    f'prompt="{caption}" has {ids.shape[1]} tokens, and {self.name} reads {most} at most. Say it in '
                    "fewer words."
                )
            self._read[caption] = model(input_ids=ids).last_hidden_state[0]
        return self._read[caption]

    def __deepcopy__(self, memo: object) -> "FrozenTextEncoder":
        return self  # it never changes: the average of the weights shares it

    def get_extra_state(self) -> Tensor:
        """The digest of the frozen weights, uint8 (32,)."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._frozen[1].state_dict().items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return torch.tensor(list(digest.digest()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        if not torch.equal(state.cpu(), self.get_extra_state()):
            raise UserError(
                f"The text model in {self.name} is not the one that this run was trained with. Put that one back, or "
                "train the run again."
            )
