"""Omniglot (Lake, Salakhutdinov & Tenenbaum, 2015): alphabet → character → drawing, by 20 people each."""

import re

import torch
from numpy import asarray
from PIL import Image
from torch import Generator, Tensor

from hldm.config.dataset import Omniglot
from hldm.config.omniglot_files import read_drawings
from hldm.data.dataset import Dataset, InMemorySplit


def omniglot(settings: Omniglot) -> Dataset:
    """Drawings of the characters of several alphabets, 1 × side × side, ink bright: a pixel is the share of ink in it.

    The tree is root → alphabets → characters, and every image lies at a character. Splits are by drawer: nobody's hand
    is in two of them, whatever they drew. A group is what one person drew of one alphabet.

    Args:
        settings: the folder with the archives and which of them; side; how many of the drawers, the last ones, are for
            validation and test; label_level, whether a class is an alphabet or a character.

    Raises:
        UserError: an archive is missing, damaged or not what it should be.
    """
    drawings, side = read_drawings(settings), settings.side
    # the box filter is the mean over the area of a pixel
    reduced = [asarray(ink.resize((side, side), Image.Resampling.BOX)) for ink in drawings.values()]
    images = torch.stack([torch.tensor(array) for array in reduced]).unsqueeze(1)
    alphabets = sorted({drawing.alphabet for drawing in drawings})
    characters = sorted({(drawing.alphabet, drawing.character) for drawing in drawings})
    # nodes in the order root, alphabets, characters
    of_alphabet = {alphabet: 1 + index for index, alphabet in enumerate(alphabets)}
    of_character = {character: 1 + len(alphabets) + index for index, character in enumerate(characters)}
    parents = torch.tensor([0] + [0] * len(alphabets) + [of_alphabet[alphabet] for alphabet, _ in characters])
    nodes = torch.tensor([of_character[drawing.alphabet, drawing.character] for drawing in drawings])
    drawers = torch.tensor([drawing.drawer for drawing in drawings])
    hands = parents[nodes] * (1 + drawers.max()) + drawers
    if settings.label_level == "alphabet":
        labels, names = parents[nodes] - 1, [_spaced(alphabet) for alphabet in alphabets]
    else:
        labels = nodes - 1 - len(alphabets)
        names = [f"{_spaced(alphabet)} {character}" for alphabet, character in characters]

    present = drawers.unique()
    last = len(present) - settings.test_drawers
    parts = present.tensor_split([last - settings.validation_drawers, last])
    generator = Generator().manual_seed(0)

    def split(by: Tensor) -> InMemorySplit:
        rows = torch.isin(drawers, by).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]  # the first ones are of all alphabets
        return InMemorySplit(images[rows], labels[rows], nodes[rows], hands[rows])

    train, validation, test = (split(part) for part in parts)
    return Dataset(
        name="omniglot",
        image_shape=(1, side, side),
        class_names=tuple(names),
        train=train,
        validation=validation,
        test=test,
        class_words=tuple(" ".join(re.findall(r"[a-z0-9'-]+", name.lower())) for name in names),
        parents=parents,
    )


def _spaced(alphabet: str) -> str:
    return alphabet.replace("_", " ")
