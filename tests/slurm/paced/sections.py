"""The settings of data and process."""

from pydantic import Field

from hldm.config import dataset, diffusion
from hldm.config.base import Count, NotNegative


class Circles(dataset.Dataset, target="paced.parts.circles"):
    """Noisy circles around the origin of the plane, a class each."""

    has_pictures = False

    rings: Count = Field(default=3, description="how many circles", examples=[3])


class PacedFlow(diffusion.FlowMatching, target="paced.parts.PacedFlow"):
    """Flow matching that takes its time."""

    pause: NotNegative = Field(default=0.0, description="seconds that a step takes longer", examples=[0.1])
    until: str = Field(default="", description="a file that ends all pauses when it is there", examples=["go"])

    def unread(self) -> set[str]:
        return {"pause", "until"}  # so that runs of any pace have one identity and the same results
