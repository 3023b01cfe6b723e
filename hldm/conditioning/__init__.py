"""What steers the denoiser: nothing, a class label, or text."""

from hldm.conditioning.base import Conditioning, Guidance, Subjects
from hldm.conditioning.labels import ClassConditioning, Unconditional
from hldm.conditioning.text import TextConditioning

__all__ = ["ClassConditioning", "Conditioning", "Guidance", "Subjects", "TextConditioning", "Unconditional"]
