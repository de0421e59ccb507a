"""On what a piece of evidence was measured."""

from __future__ import annotations

import platform
from typing import Any


def machine() -> dict[str, Any]:
    """Processor and versions, without names of hosts or users."""
    import os

    import torch
    import transformers

    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
