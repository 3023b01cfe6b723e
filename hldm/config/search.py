"""How settings are searched for, `search=tpe`: what is judged, and how many trials it takes."""

from typing import Literal

from pydantic import Field

from hldm.config.base import NotNegativeWhole, Repeats, Section, Word


class Search(Section):
    """A search for the settings that a command gives as intervals. None of this is part of a run."""

    sampler: Literal["tpe", "random"] = Field(
        default="tpe", description="tpe learns from trials that have ended where good ones lie, random does not"
    )
    trials: Repeats = Field(
        default=20, description="trials of each search, those that failed among them", examples=[20]
    )
    metric: Word = Field(
        default="fid", description="figure of results.json that is judged, a mean over seeds", examples=["kid"]
    )
    direction: Literal["auto", "minimize", "maximize"] = Field(
        default="auto", description="which way is better; auto knows it of this project's own figures"
    )
    split: Literal["validation", "test"] = Field(
        default="validation",
        description="images that the figure is of; what is chosen on test images is no result on them",
    )
    at_once: Repeats = Field(
        default=4, description="trials that are proposed together, before any of them has ended", examples=[4]
    )
    random_trials: NotNegativeWhole = Field(
        default=8, description="trials at random before tpe begins to learn", examples=[8]
    )
    seed: NotNegativeWhole = Field(default=0, description="seed of what is proposed, not of runs", examples=[0])
