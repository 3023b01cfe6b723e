"""GPUs that a plan can be made for: memory, and dense peak rates as NVIDIA's data sheets have them (2026-11-26)."""

import re
from dataclasses import dataclass
from typing import Literal

Model = Literal["h200", "h100", "a100", "a100_40gb", "l40s", "a6000", "a10", "rtx4090", "rtx3090", "v100", "t4"]


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        words: what people call it.
        memory: in GB.
        bfloat16: floating point operations per second of matrix products in bfloat16, summed in float32; of those in
            float32 where it has none.
        float32: of convolutions in float32 as torch does them: in TF32 where it has that.
    """

    words: str
    memory: int
    bfloat16: float
    float32: float

    def peak(self, precision: str) -> float:
        """Floating point operations per second in a number format."""
        return self.bfloat16 if precision == "bfloat16" else self.float32


GPUS: dict[str, Gpu] = {
    "h200": Gpu("H200", 141, 989e12, 494e12),
    "h100": Gpu("H100", 80, 989e12, 494e12),
    "a100": Gpu("A100", 80, 312e12, 156e12),
    "a100_40gb": Gpu("A100", 40, 312e12, 156e12),
    "l40s": Gpu("L40S", 48, 362e12, 183e12),
    "a6000": Gpu("RTX A6000", 48, 155e12, 77e12),
    "a10": Gpu("A10", 24, 125e12, 62e12),
    "rtx4090": Gpu("RTX 4090", 24, 165e12, 83e12),
    "rtx3090": Gpu("RTX 3090", 24, 71e12, 36e12),
    "v100": Gpu("V100", 32, 15.7e12, 15.7e12),
    "t4": Gpu("T4", 16, 8.1e12, 8.1e12),
}


def gpu_called(name: str, memory: float) -> str | None:
    """The model of the GPU that a driver calls so, such as "NVIDIA A100-SXM4-40GB"; None where it is not known.

    Args:
        memory: in GB, which tells models of one name apart.
    """
    words = re.findall(r"[a-z]+\d+[a-z]*|\d+", name.lower())
    found = [model for model in GPUS if model.partition("_")[0].removeprefix("rtx") in words]
    return min(found, key=lambda model: abs(GPUS[model].memory - memory), default=None)
