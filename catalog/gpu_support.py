"""Which GPUs the engine can't use, so that a sync does not offer them for new machines.

vLLM's image for NVIDIA needs compute capability 7.0 (docs.vllm.ai, "GPU" installation, requirements) and is built for
x86-64. The lists below can be complete because nothing is added to them any more: no GPU below 7.0 is built since
2017, and what a provider adds tomorrow is newer. A name that is in none of them is taken for usable.
"""

from __future__ import annotations

import re

MINIMUM_COMPUTE_CAPABILITY = "7.0"

# NVIDIA's data-centre GPUs before Volta (developer.nvidia.com/cuda-legacy-gpus).
_COMPUTE_CAPABILITY = {
    "K4": "3.0",
    "K10": "3.0",
    "K520": "3.0",
    "K20": "3.5",
    "K40": "3.5",
    "K80": "3.7",
    "M4": "5.2",
    "M6": "5.2",
    "M10": "5.0",
    "M40": "5.2",
    "M60": "5.2",
    "P4": "6.1",
    "P6": "6.1",
    "P40": "6.1",
    "P100": "6.0",
}
_OTHER_MAKERS = frozenset({"AMD", "RADEON", "INSTINCT", "MI300X", "GAUDI", "HABANA", "INTEL", "INFERENTIA", "TRAINIUM"})
_ON_ARM = frozenset({"T4G", "GH200", "GB200", "GB300"})  # their machines have Arm processors


def unusable_because(gpu_name: str) -> str | None:
    """Why the engine can't use the GPU, in words; None: it can, as far as is known. "P100-PCIE-16GB" is a P100."""
    words = re.findall(r"[A-Z0-9]+", gpu_name.upper())
    for word in words:
        if capability := _COMPUTE_CAPABILITY.get(word):
            return f"{word} has compute capability {capability}, the engine needs {MINIMUM_COMPUTE_CAPABILITY}"
        if word in _OTHER_MAKERS:
            return "the engine's image is for NVIDIA GPUs"
        if word in _ON_ARM:
            return f"the machines of {word} have Arm processors, the engine's image is for x86-64"
    return None
