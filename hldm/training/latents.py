"""Where the second stage gets its latents from: memory, a disk, or the first stage in each step.

Legend: N training images, each with the moments of its posterior: one or two tensors (*latent shape), the mean and,
where the encoder is not sure, the standard deviations.
"""

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from hldm.autoencoder import Encoded
from hldm.data import Split
from hldm.errors import UserError
from hldm.files import is_as_sealed, seal, write_atomically, write_text_atomically
from hldm.images import to_unit
from hldm.model import LatentModel
from hldm.run import stop
from hldm.training import ranks

AT_ONCE = 500
"""Images that are encoded at once, where they are small."""

NUMBERS_AT_ONCE = 2**23
"""Numbers in the images that are encoded at once, where they are large."""

AHEAD = 4
"""Batches that are read from a disk before they are asked for."""

SHARD_BYTES = 2**27
"""Of one file of moments, at most, where one encoded batch is not more."""

DESCRIPTION = "latents.json"


class Latents(ABC):
    """What the first stage says of all training images."""

    @abstractmethod
    def rows(self, chosen: Tensor) -> Encoded:
        """The moments of the chosen images, int64 (K,) on the CPU, in float32 on the model's device."""

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Encoded]:
        """What `rows` gives for each of these indices, in their order. What takes long is begun ahead."""
        return map(self.rows, chosen)


@final
class InMemory(Latents):
    """Moments of all images, or of some, in one tensor or two, on the model's device.

    Args:
        encoded: of N images, or of those.
        images: int64, rising: the indices of the images that it is of; None: all.
    """

    def __init__(self, encoded: Encoded, images: Tensor | None = None) -> None:
        self.encoded, self.images = encoded, images

    def rows(self, chosen: Tensor) -> Encoded:
        rows = chosen if self.images is None else torch.searchsorted(self.images, chosen)
        return self.encoded.rows(rows.to(self.encoded.loc.device))


@final
class Anew(Latents):
    """Nothing is kept: the first stage looks at the images of a step when the step asks.

    Args:
        model: whose first stage is trained.
        split: the training images.
        half: whether moments are rounded as `training.latent_precision=float16` keeps them.
    """

    def __init__(self, model: LatentModel, split: Split, *, half: bool = False) -> None:
        self.model, self.split, self.half = model, split, half

    def rows(self, chosen: Tensor) -> Encoded:
        return rounded(encode(self.model, self.split, chosen), half=self.half)

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Encoded]:
        return map(self._encoded, ranks.batches(self.split, chosen))

    def _encoded(self, images: Tensor) -> Encoded:
        # in torch's usual order of axes, as that of the layers decides about last bits
        return rounded(encode_batch(self.model, images).mapped(Tensor.contiguous), half=self.half)


@dataclass(frozen=True)
class Form:
    """What files of moments look like: N rows of `parts` tensors.

    Attributes:
        latent_shape: of one tensor.
        parts: 1 where the encoder is sure, 2 where there are standard deviations too.
        kept_as: "float32" or "float16".
        batch: images that were encoded at once.
    """

    rows: int
    latent_shape: tuple[int, ...]
    parts: int
    kept_as: str
    batch: int

    @property
    def row_bytes(self) -> int:
        return self.parts * prod(self.latent_shape) * np.dtype(self.kept_as).itemsize

    @property
    def bytes(self) -> int:
        """Of all rows."""
        return self.rows * self.row_bytes

    @property
    def shard_rows(self) -> int:
        """Rows of a file: whole batches, so that a file is the same whoever resumes the work."""
        return self.batch * max(1, SHARD_BYTES // (self.row_bytes * self.batch))

    @property
    def shards(self) -> int:
        """How many files there are."""
        return -(-self.rows // self.shard_rows)

    def of_shard(self, shard: int) -> range:
        """The rows that a file holds."""
        first = shard * self.shard_rows
        return range(first, min(first + self.shard_rows, self.rows))


@final
class OnDisk(Latents):
    """Moments in memory-mapped files of a folder, which any number of processes read at the same time.

    <folder>/latents.json      what the files look like
    <folder>/00000.npy, …      an array (rows, parts, *latent shape) each, with a line behind it that says its SHA-256

    A file is written whole or not at all, so work that was broken off goes on with the files that are missing.

    Args:
        folder: of this first stage on these data.
        form: what the files look like.
        device: of the model.
    """

    def __init__(self, folder: Path, form: Form, device: torch.device) -> None:
        self.folder, self.form, self.device = folder, form, device

    def file(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.npy"

    def missing(self) -> list[int]:
        """The files that are not there. A file that is not what was written is removed, which is said.

        Raises:
            UserError: the folder holds moments of another form.
        """
        described = self.folder / DESCRIPTION
        if described.is_file():
            if json.loads(described.read_text(encoding="utf-8")) != json.loads(json.dumps(asdict(self.form))):
                raise UserError(f"{self.folder} holds latents of another form. Delete it: it is made again.")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text_atomically(described, json.dumps(asdict(self.form)))
        found = []
        for shard in range(self.form.shards):
            stop.check()
            file = self.file(shard)
            if file.is_file() and not is_as_sealed(file):
                print(f"    {file} is not what was written, and its images are encoded again", flush=True)
                file.unlink()
            if not file.is_file():
                found.append(shard)
        return found

    def write(self, shard: int, encoded: Encoded) -> None:
        """Write one file: the moments of its rows."""
        parts = [part.cpu() for part in encoded if part is not None]
        moments = torch.stack(parts, 1).to(getattr(torch, self.form.kept_as))
        if not moments.isfinite().all():
            raise UserError(
                f"The first stage finds latents that {self.form.kept_as} cannot hold. Type "
                "training.latent_precision=float32, or train another first stage."
            )

        def save(file: Path) -> None:
            with file.open("wb") as stream:
                np.save(stream, moments.numpy())
            seal(file)

        write_atomically(self.file(shard), save)

    def rows(self, chosen: Tensor) -> Encoded:
        return self._moved(self._read(chosen))

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Encoded]:
        with ThreadPoolExecutor(1, "latents") as thread:
            coming: deque[Future[Encoded]] = deque()
            for indices in chosen:
                coming.append(thread.submit(self._read, indices))
                if len(coming) > AHEAD:
                    yield self._moved(coming.popleft().result())
            while coming:
                yield self._moved(coming.popleft().result())

    def whole(self) -> Encoded:
        """All moments, on the model's device."""
        return self.rows(torch.arange(self.form.rows))

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        return [np.load(self.file(shard), mmap_mode="r") for shard in range(self.form.shards)]

    def _moved(self, encoded: Encoded) -> Encoded:
        return encoded.mapped(lambda part: part.to(self.device, non_blocking=True))

    def _read(self, chosen: Tensor) -> Encoded:
        rows, maps = chosen.numpy(), self._maps
        found = np.empty((len(rows), self.form.parts, *self.form.latent_shape), np.float32)
        shards = rows // self.form.shard_rows
        for shard in np.unique(shards):
            own = np.flatnonzero(shards == shard)
            found[own] = maps[shard][rows[own] - shard * self.form.shard_rows]
        moments = torch.from_numpy(found)
        if self.device.type == "cuda":
            moments = moments.pin_memory()
        return Encoded(*(part.contiguous() for part in moments.unbind(1)))


def form_of(model: LatentModel, split: Split, kept_as: str) -> Form:
    """What files of the moments of these images look like."""
    one = encode_batch(model, split.first(1))
    batch = images_at_once(model.autoencoder.image_shape)
    return Form(len(split), tuple(one.loc.shape[1:]), 1 + (one.scale is not None), kept_as, batch)


def fill(
    latents: OnDisk,
    shards: list[int],
    model: LatentModel,
    split: Split,
    on_rows: Callable[[int], None],
    *,
    is_writer: bool,
) -> None:
    """Encode the images of these files, and write them where `is_writer`: ranks encode together, and one writes.

    Args:
        on_rows: called with the images that are done.
    """
    form, done = latents.form, 0
    for shard in shards:
        rows = form.of_shard(shard)
        parts = []
        for part, encoded in encoded_batches(model, split, torch.arange(rows.start, rows.stop), form.batch):
            parts.append(encoded.mapped(Tensor.cpu))
            done += len(part)
            on_rows(done)
        if is_writer:
            scales = [part.scale for part in parts if part.scale is not None]
            latents.write(
                shard, Encoded(torch.cat([part.loc for part in parts]), torch.cat(scales) if scales else None)
            )


def images_at_once(image_shape: tuple[int, ...]) -> int:
    """How many images of this shape are encoded at once."""
    return max(2, min(AT_ONCE, NUMBERS_AT_ONCE // prod(image_shape)))


def rounded(encoded: Encoded, *, half: bool) -> Encoded:
    """The moments as float16 holds them, where `half`."""
    return encoded.mapped(lambda part: part.half().float()) if half else encoded


@torch.no_grad()
def encode_batch(model: LatentModel, images: Tensor) -> Encoded:
    """`Autoencoder.encode` of images (B, *image shape) as a data set gives them, on the model's device."""
    return model.autoencoder.encode(to_unit(images.to(model.device)))


def encoded_batches(
    model: LatentModel, images: Tensor | Split, chosen: Tensor, batch_size: int
) -> Iterator[tuple[Tensor, Encoded]]:
    """The chosen images, int64 (K,), a batch at a time: (their indices, what the encoder says of them).

    A split that streams reads the next ones meanwhile.
    """
    parts = chosen.split(batch_size)
    batches = ranks.batches(images, parts) if isinstance(images, Split) else (images[part] for part in parts)
    for part, batch in zip(parts, batches, strict=True):
        stop.check()
        yield part, encode_batch(model, batch)


def encode(
    model: LatentModel, images: Tensor | Split, chosen: Tensor | None = None, batch_size: int | None = None
) -> Encoded:
    """`Autoencoder.encode` of images (N, *image shape) or of a split, a batch at a time, on the model's device.

    Args:
        chosen: int64 (K,), indices of the images to encode, in the order of the result; all by default.
        batch_size: see `images_at_once`.
    """
    chosen = torch.arange(len(images)) if chosen is None else chosen
    whole: Encoded | None = None
    done = 0
    for part, (loc, scale) in encoded_batches(
        model, images, chosen, batch_size or images_at_once(model.autoencoder.image_shape)
    ):
        if whole is None:
            # in torch's usual order of axes whatever the encoder's, as that of the layers decides about last bits
            shape = (len(chosen), *loc.shape[1:])
            whole = Encoded(loc.new_empty(shape), None if scale is None else scale.new_empty(shape))
        rows = slice(done, done := done + len(part))
        whole.loc[rows] = loc
        if whole.scale is not None and scale is not None:
            whole.scale[rows] = scale
    assert whole is not None, "there are images"
    return whole
