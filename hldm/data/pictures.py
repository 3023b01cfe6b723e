"""One picture's file → the pixels that are trained on. All files of pictures go through here.

Legend: a square of S × S pixels in C channels, 3 (colour) or 1 (grey).
"""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Image.init()
FORMATS = tuple({"AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"} & Image.OPEN.keys())
"""What is read, told by content whatever a file is called. Formats that run programs, as PostScript, are not."""

PREPROCESSING = "2026-11-26: first frame, upright, on white, middle square, bicubic with antialiasing, bytes"
"""What is done to pictures besides their side and colour; another text whenever that changes, as caches hang on it."""

# a picture may be larger than Pillow warns of; it still refuses one of more than 178 million pixels
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnreadableError(Exception):
    """A file that is not a picture, or is damaged; the reason in words."""


def prepared(content: bytes, side: int, channels: int) -> NDArray[np.uint8]:
    """The middle square of a picture at the wanted size, uint8 (C, S, S), not to be written to.

    The first frame is turned as its EXIF entry says and laid on white where it is transparent; 16-bit levels are
    divided by 257, also where they stand in 32 bits, unless none of those is beyond 255: then they are bytes; other
    colour spaces (CMYK, palettes, YCbCr) become RGB; grey is its luma, ITU-R 601.

    Raises:
        UnreadableError: the content is no picture, or one that cannot be read to its end.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            return _square(_in_colour(picture), side, channels)
    except Exception as error:  # what decoders raise of damaged files has no common class
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if "cannot identify image file" in reason:  # with an address in memory, another one each time
            reason = "it is empty" if not content else "it is not a picture"
        raise UnreadableError(reason) from None


def _square(image: Image.Image, side: int, channels: int) -> NDArray[np.uint8]:
    """The middle square of an RGB image, resized."""
    if channels == 1:
        image = image.convert("L")
    crop = min(image.size)
    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    image = image.crop((left, top, left + crop, top + crop))
    # Pillow's filters grow with the reduction: that is the antialiasing
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    return pixels.reshape(side, side, channels).transpose(2, 0, 1)


def _in_colour(image: Image.Image) -> Image.Image:
    """RGB, whatever the mode was.

    Raises:
        ValueError: a mode whose white is not known.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("levels beyond 16 bits, whose white is not known")
        if (clear := image.info.get("transparency")) is not None:  # a level, of PNG
            levels = np.where(levels == clear, 65535, levels)
        elif image.mode == "I" and levels.max() <= 255:  # programs that keep bytes in 32 bits
            levels = levels * 257
        image = Image.fromarray((levels / 257).round().astype(np.uint8))
    if image.mode == "F":
        raise ValueError("levels that are no whole numbers, whose white is not known")
    clear = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:  # of 16 bits, of which Pillow reads 8
        image.info["transparency"] = tuple(level >> 8 for level in clear)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
