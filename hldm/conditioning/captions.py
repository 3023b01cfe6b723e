"""Captions of labels, and the words they are made of."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from hldm.errors import UserError

EMPTY = ""
"""The caption that says nothing: what guidance leads away from."""


@dataclass(frozen=True)
class Captions:
    """What is said of a picture of each class.

    Attributes:
        templates: of training, with {} where the class stands.
        held_out: of evaluation; training never sees it, only its words.
        class_names: what {} becomes, one per class.
    """

    templates: tuple[str, ...]
    held_out: str
    class_names: tuple[str, ...]

    def draw(self, labels: Tensor, dropout: float, generator: Generator) -> list[str]:
        """A caption of training per label (B,): any template, all equally likely; empty at the rate `dropout`."""
        dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < dropout
        chosen = torch.randint(len(self.templates), labels.shape, generator=generator, device=labels.device)
        rows = zip(labels.tolist(), chosen.tolist(), dropped.tolist(), strict=True)
        return [EMPTY if drop else self.templates[k].format(self.class_names[label]) for label, k, drop in rows]

    def of(self, labels: Tensor) -> list[str]:
        """The held-out caption of every label (B,)."""
        return [self.held_out.format(self.class_names[label]) for label in labels.tolist()]

    def of_training(self) -> list[str]:
        """All that training can say, the empty caption apart."""
        return [template.format(name) for template in self.templates for name in self.class_names]


class WordTokenizer:
    """Caption → start, a token per word, end, padding; all captions have the same length.

    Args:
        captions: have all the words there are, and the longest caption there may be.
    """

    START, END, PADDING = 0, 1, 2

    def __init__(self, captions: Iterable[str]) -> None:
        split = [words(caption) for caption in captions]
        self.vocabulary = sorted({word for caption in split for word in caption})
        self.length = 2 + max(map(len, split))
        self._ids = {word: 3 + k for k, word in enumerate(self.vocabulary)}

    @property
    def size(self) -> int:
        """Different tokens."""
        return 3 + len(self.vocabulary)

    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids int64 (B, length), and the mask bool (B, length) of those that are not padding.

        Raises:
            UserError: a word that was never seen in training, or more words than any caption of training has.
        """
        rows = [[self.START, *map(self._id, self._fitting(caption)), self.END] for caption in captions]
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.tensor([row + [self.PADDING] * (self.length - len(row)) for row in rows])
        return ids, torch.arange(self.length) < lengths.unsqueeze(1)

    def _fitting(self, caption: str) -> list[str]:
        split = words(caption)
        if len(split) > self.length - 2:
            raise UserError(
                f'prompt="{caption}" has {len(split)} words, and this model was trained on captions of up to '
                f"{self.length - 2}. Say it in fewer."
            )
        return split

    def _id(self, word: str) -> int:
        if word not in self._ids:
            raise UserError(
                f"The prompt has the word {word!r}, which this model has never seen. It knows "
                f"{', '.join(self.vocabulary)}."
            )
        return self._ids[word]


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"[a-z0-9'-]+", text.lower())
