"""What steers the denoiser: nothing, or a class label."""

from hldm.conditioning.base import Conditioning, Guidance, Subjects
from hldm.conditioning.labels import ClassConditioning, Unconditional

__all__ = ["ClassConditioning", "Conditioning", "Guidance", "Subjects", "Unconditional"]
