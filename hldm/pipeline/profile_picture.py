"""The picture of a likelihood profile over curvatures: nats per image against flat space, with twice its error."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hldm.files import write_atomically
from hldm.metrics.curvature_profile import ERRORS, Profile
from hldm.pipeline.pictures import PALETTE

WIDTH, HEIGHT = 720, 480
LEFT, RIGHT, TOP, BOTTOM = 90, 20, 50, 60
GREY = (120, 120, 120)


def save_profiles(path: Path, profiles: dict[str, Profile], own: float) -> None:
    """Write one line with its band for each family of laws; the run's own c is a vertical line.

    Drawn twice as large and reduced, as the picture of the latents is.

    Args:
        own: c of the run; 0 draws no line.
    """
    picture = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), "white")
    draw, font = ImageDraw.Draw(picture, "RGBA"), ImageFont.load_default(26)
    first = next(iter(profiles.values()))
    logs = np.log10(first.curvatures)
    low, high = vertical_range(profiles)

    def pixel(x: float, y: float) -> tuple[float, float]:
        across = (x - logs[0]) / (logs[-1] - logs[0])
        up = (min(max(y, low), high) - low) / (high - low)
        return 2 * (LEFT + across * (WIDTH - LEFT - RIGHT)), 2 * (HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM))

    for decade in range(math.ceil(logs[0]), math.floor(logs[-1]) + 1):
        x, y = pixel(decade, low)
        draw.line([(x, y), (x, y + 12)], fill=GREY, width=3)
        draw.text((x, y + 18), f"{10.0**decade:g}", fill=GREY, font=font, anchor="mt")
    for value in (low, 0.0, high):
        x, y = pixel(logs[0], value)
        draw.line([(x, y), pixel(logs[-1], value)], fill=(*GREY, 255 if value == 0 else 60), width=3)
        draw.text((x - 10, y), f"{value:.2g}", fill=GREY, font=font, anchor="rm")
    if own > 0 and logs[0] <= math.log10(own) <= logs[-1]:
        draw.line([pixel(math.log10(own), low), pixel(math.log10(own), high)], fill=(*GREY, 120), width=3)
        draw.text(pixel(math.log10(own), high), f"c = {own:.3g}", fill=GREY, font=font, anchor="mb")
    for i, (name, profile) in enumerate(profiles.items()):
        gain, error = np.array(profile.gain), ERRORS * np.array(profile.error)
        upper = [pixel(x, y) for x, y in zip(logs, gain + error, strict=True)]
        lower = [pixel(x, y) for x, y in zip(logs, gain - error, strict=True)]
        draw.polygon([*upper, *lower[::-1]], fill=(*PALETTE[i], 50))
        draw.line([pixel(x, y) for x, y in zip(logs, gain, strict=True)], fill=PALETTE[i], width=5)
        draw.text((2 * LEFT + 16, 2 * TOP + 16 + 34 * i), f"{name} normals", fill=PALETTE[i], font=font, anchor="lt")
    draw.text((WIDTH, 2 * HEIGHT - 20), "curvature c", fill=GREY, font=font, anchor="mb")
    draw.text((20, 20), "nats per image against flat space", fill=GREY, font=font, anchor="lt")
    reduced = picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    write_atomically(path, lambda file: reduced.save(file, format="PNG"))


def vertical_range(profiles: dict[str, Profile]) -> tuple[float, float]:
    """What is shown: the best gain with its band, and three times as much below 0. What is worse lies at the edge."""
    gains = np.array([profile.gain for profile in profiles.values()])
    errors = ERRORS * np.array([profile.error for profile in profiles.values()])
    high = max(float((gains + errors)[gains >= 0].max(initial=0.0)), 2 * float(np.median(errors)), 1e-6)
    return -3 * high, 1.1 * high
