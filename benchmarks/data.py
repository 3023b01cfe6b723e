"""Images per second from disks, beside torchvision's data sets; what an index of keys costs; memory over many images.

    python benchmarks/data.py [images=1000] [readers=1] [repeats=15] [keys=1000000] [flat=100000]

Pictures are made: 300 × 256 pixels of smooth colours with grain, JPEG of quality 75 in a folder and WebP in an LMDB, as
LSUN has them. All ways decode the same files to the same 256 × 256 squares, in batches of 64; torchvision's are cut and
resized by the same two calls of Pillow. Decoding is one process that makes arrays. Ways take turns, and the least of
the repeats counts, as cores that others share have slow minutes; of each way what a quarter of the images takes is left
out, and with it its start. Rates are by seconds of the processes that read, which is what bounds a run with a processor
for each; of all processes; and of the clock, which says little where others share the machine.
"""

import hashlib
import math
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from io import BytesIO
from pathlib import Path

import lmdb
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.datasets.lsun import LSUNClass

from hldm.config import picture_files
from hldm.data.folder import Files
from hldm.data.lsun import Database, keys_of
from hldm.data.pictures import prepared
from hldm.data.streamed import Source, StreamedSplit

SIDE, BATCH = 256, 64
DISTINCT = 200
"""Pictures that are made; the others are their copies under other names."""


def picture(number: int, width: int = 300, height: int = 256) -> Image.Image:
    """Smooth colours with grain, which compress about as photographs do."""
    generator = np.random.default_rng(number)
    small = Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + generator.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str) -> bytes:
    content = BytesIO()
    image.save(content, format=kind, quality=75)
    return content.getvalue()


def database(folder: Path, contents: list[bytes], total: int) -> Path:
    """An LMDB in LSUN's form with `total` entries."""
    folder.mkdir()
    size = total * (max(map(len, contents)) + 8192) + 2**24
    with lmdb.open(str(folder), map_size=size) as opened:
        for start in range(0, total, 10_000):
            with opened.begin(write=True) as transaction:
                for number in range(start, min(start + 10_000, total)):
                    key = hashlib.sha1(str(number).encode()).hexdigest().encode()
                    transaction.put(key, contents[number % len(contents)])
    return folder


def square(image: Image.Image) -> Tensor:
    """For torchvision what `prepared` does: the middle square, bicubic, bytes."""
    crop = min(image.size)
    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    image = image.crop((left, top, left + crop, top + crop)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def orders(total: int) -> Iterator[Tensor]:
    yield from torch.randperm(total, generator=torch.Generator().manual_seed(0)).split(BATCH)


def decoding(source: Source, total: int) -> None:
    for indices in orders(total):
        for entry in indices.tolist():
            np.ascontiguousarray(prepared(source.content(entry), SIDE, 3))


def ours(source: Source, readers: int, total: int) -> None:
    labels = torch.zeros(total, dtype=torch.long)
    split = StreamedSplit(source, np.arange(total), labels, side=SIDE, channels=3, content="", readers=readers)
    for _ in split.batches(orders(total)):
        pass


def theirs(make: Callable[[], ImageFolder | LSUNClass], readers: int, total: int) -> None:
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0)).tolist()
    for _ in DataLoader(Subset(make(), order), batch_size=BATCH, num_workers=readers, collate_fn=stacked):
        pass


def stacked(rows: list[tuple[Tensor, object]]) -> Tensor:
    return torch.stack([image for image, _ in rows])


def rates(ways: dict[str, Callable[[int], None]], total: int, repeats: int) -> dict[str, list[float]]:
    """Way → images per second of `KINDS`: the least of the repeats, of what a quarter of the images takes less."""
    few = total // 4
    least = {(name, count): [math.inf] * len(KINDS) for name in ways for count in (few, total)}
    for _ in range(repeats):
        for name, count in least:
            found = spent(partial(ways[name], count))
            least[name, count] = list(map(min, least[name, count], found))
    return {
        name: [(total - few) / (more - less) for less, more in zip(least[name, few], least[name, total], strict=True)]
        for name in ways
    }


def spent(work: Callable[[], None]) -> list[float]:
    """Seconds of `KINDS`."""
    start, before = time.perf_counter(), processor_seconds()
    work()
    own, readers = (after - earlier for after, earlier in zip(processor_seconds(), before, strict=True))
    return [readers or own, own + readers, time.perf_counter() - start]


KINDS = ("processor that reads", "processors", "the clock")


def processor_seconds() -> tuple[float, float]:
    """Of this process, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, children = (each.ru_utime + each.ru_stime for each in used)
    return own, children


def compared(root: Path, total: int, readers: int, repeats: int) -> None:
    """Tables of a folder and of an LMDB."""
    folder = root / "folder" / "class"
    folder.mkdir(parents=True)
    images = [picture(number) for number in range(DISTINCT)]
    jpegs, webps = ([encoded(image, kind) for image in images] for kind in ("JPEG", "WEBP"))
    for number in range(total):
        (folder / f"{number:06}.jpg").write_bytes(jpegs[number % DISTINCT])
    scenes = database(root / "bedroom_train_lmdb", webps, total)
    files = Files(folder.parent, picture_files.listed(folder.parent).names)
    keys = Database([scenes], [keys_of(scenes, root / "cache")])
    image_folder = ImageFolder(str(folder.parent), transform=square)
    lsun = partial(lsun_of_torchvision, scenes, root / "lists")
    for name, source, other in (("folder of JPEG", files, lambda: image_folder), ("LMDB of WebP", keys, lsun)):
        found = rates(
            {
                "decoding": partial(decoding, source),
                "hldm": partial(ours, source, readers),
                "torchvision": partial(theirs, other, readers),
            },
            total,
            repeats,
        )
        for kind, what in enumerate(KINDS):
            alone, own, torchvision = (found[way][kind] for way in ("decoding", "hldm", "torchvision"))
            figures = f"{alone:.0f} | {own:.0f} | {torchvision:.0f} | {own / alone:.2f} | {own / torchvision:.2f}"
            print(f"| {name}, by {what} | {figures} |", flush=True)


def lsun_of_torchvision(scenes: Path, lists: Path) -> LSUNClass:
    """It keeps a list of keys in the working folder, and cannot be sent to processes while its database is open."""
    lists.mkdir(exist_ok=True)
    here = Path.cwd()
    os.chdir(lists)
    try:
        return LSUNClass(str(scenes), transform=square)
    finally:
        os.chdir(here)


def index_time(root: Path, keys: int) -> None:
    """Seconds for an index of so many keys, and for the next run's."""
    scenes = database(root / "tower_train_lmdb", [bytes(100)], keys)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        found = keys_of(scenes, root / "cache")
        seconds.append(time.perf_counter() - start)
    print(f"{len(found)} keys: {seconds[0]:.1f} s, then {seconds[1]:.3f} s; {found.nbytes / 1e6:.0f} MB on the disk")


def own_memory() -> int:
    """MiB that only this process and its children have."""
    total = 0
    processes = [Path("/proc/self"), *(Path("/proc") / pid for pid in children())]
    for process in processes:
        lines = (process / "smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    return total // 1024


def children() -> list[str]:
    return Path(f"/proc/self/task/{Path('/proc/self').resolve().name}/children").read_text().split()


def memory(root: Path, total: int, readers: int) -> None:
    """MiB after every tenth of so many small images."""
    contents = [encoded(picture(number, 70, 64), "JPEG") for number in range(DISTINCT)]
    scenes = database(root / "church_train_lmdb", contents, total)
    source = Database([scenes], [keys_of(scenes, root / "cache")])
    labels = torch.zeros(total, dtype=torch.long)
    split = StreamedSplit(source, np.arange(total), labels, side=64, channels=3, content="", readers=readers)
    seen, marks = 0, []
    for images in split.batches(orders(total)):
        seen += len(images)
        if seen * 10 // total > len(marks):
            marks.append(own_memory())
    print(f"own memory after each tenth of {total} images, {readers} readers: {', '.join(map(str, marks))} MiB")


def main(images: int = 1000, readers: int = 1, repeats: int = 15, keys: int = 1_000_000, flat: int = 100_000) -> None:
    torch.set_num_threads(1)
    print(f"{date.today()}, {platform.machine()}, {readers} reader(s), torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print("| images per second | decoding | hldm | torchvision | hldm / decoding | hldm / torchvision |")
        print("| --- | --- | --- | --- | --- | --- |")
        compared(root, images, readers, repeats)
        index_time(root, keys)
        memory(root, flat, readers)


if __name__ == "__main__":
    main(**{name: int(value) for name, value in (argument.split("=") for argument in sys.argv[1:])})
