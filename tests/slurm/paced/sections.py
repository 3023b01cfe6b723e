"""The settings of the data set."""

from pydantic import Field

from hldm.config import dataset
from hldm.config.base import Count, NotNegative


class Paced(dataset.Dataset, target="paced.parts.paced"):
    """Noisy circles around the origin of the plane, a class each, that are read slowly."""

    has_pictures = False

    rings: Count = Field(default=3, description="how many circles", examples=[3])
    pause: NotNegative = Field(default=0.0, description="seconds that a batch takes to be read", examples=[0.1])

    def unread(self) -> set[str]:
        return {"pause"}  # so that runs of any pace have one identity and the same results
