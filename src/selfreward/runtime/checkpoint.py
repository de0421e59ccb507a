"""Checkpoints that are whole or absent.

A checkpoint is written beside its final name, flushed, and renamed; a manifest with checksums is
verified on load. Tensors are stored as safetensors, everything else as JSON: nothing in a run
folder can execute code. A damaged checkpoint is named and passed over in favour of the one before.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfreward.errors import CheckpointError
from selfreward.runtime.distributed import like, whole
from selfreward.runtime.files import whole_folder

PREFIX = "step-"


def pack(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Replace tensors in nested dicts and lists by references into ``tensors``; the rest must be JSON-able."""
    if isinstance(value, Tensor):
        key = path or "value"
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"__tensor__": key}
    if isinstance(value, Mapping):
        return {"__dict__": [[k, pack(v, tensors, f"{path}.{k}")] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [pack(v, tensors, f"{path}.{i}") for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(f"State {path or 'value'} is a {type(value).__name__}; states hold tensors and plain values.")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of :func:`pack` (tuples come back as lists; keys keep their types if JSON does)."""
    if isinstance(value, dict):
        if "__tensor__" in value:
            return tensors[value["__tensor__"]]
        return {k: unpack(v, tensors) for k, v in value["__dict__"]}
    if isinstance(value, list):
        return [unpack(v, tensors) for v in value]
    return value


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Write ``state`` (nested dicts of tensors and plain values) as checkpoint ``step``.

    Raises:
        CheckpointError: if it cannot be written; what was there before stays as it was.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    final = folder / f"{PREFIX}{step:08d}"
    try:
        with whole_folder(final) as partial:
            tensors: dict[str, Tensor] = {}
            plain = pack(dict(state), tensors)
            save_file(tensors, str(partial / "tensors.safetensors"))
            (partial / "state.json").write_text(json.dumps(plain), encoding="utf-8")
            manifest = {p.name: _checksum(p) for p in sorted(partial.iterdir())}
            (partial / "manifest.json").write_text(json.dumps({"step": step, "files": manifest}), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        last = newest_steps(folder)
        kept = f"The last whole checkpoint is step {last[0]}." if last else "There is no earlier checkpoint."
        raise CheckpointError(f"Cannot write checkpoint {final}: {error}. {kept}") from error
    for old in newest_steps(folder)[keep:]:
        shutil.rmtree(folder / f"{PREFIX}{old:08d}", ignore_errors=True)
    return final


def newest_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in ``folder``, newest first."""
    if not folder.is_dir():
        return []
    names = [p.name.removeprefix(PREFIX) for p in folder.iterdir() if p.name.startswith(PREFIX) and p.is_dir()]
    return sorted((int(n) for n in names if n.isdigit()), reverse=True)


def load_newest(folder: Path) -> tuple[int, dict[str, Any], list[str]]:
    """``(step, state, notes)`` of the newest valid checkpoint; ``notes`` name the damaged ones passed over.

    Raises:
        CheckpointError: if there is none.
    """
    notes: list[str] = []
    for step in newest_steps(folder):
        try:
            return step, load_checkpoint(folder / f"{PREFIX}{step:08d}"), notes
        except CheckpointError as error:
            notes.append(str(error))
    if notes:
        raise CheckpointError("No checkpoint is whole: " + " ".join(notes))
    raise CheckpointError(f"{folder} holds no checkpoint; the run stopped before its first one. Start it again.")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Verify and read one checkpoint.

    Raises:
        CheckpointError: if a file is missing, truncated or altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        for name, checksum in manifest["files"].items():
            if _checksum(path / name) != checksum:
                raise CheckpointError(f"Checkpoint {path} is damaged: {name} does not match its checksum.")
        tensors = load_file(str(path / "tensors.safetensors"))
        return unpack(json.loads((path / "state.json").read_text(encoding="utf-8")), tensors)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged: {error}") from None


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's per-parameter state as nested dicts, keyed by position."""
    state = optimizer.state_dict()["state"]
    return {str(k): {n: whole(x) if isinstance(x, Tensor) else x for n, x in v.items()} for k, v in state.items()}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restore :func:`optimizer_state` without touching the parameter groups."""
    complete = optimizer.state_dict()
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    complete["state"] = {
        int(k): {n: like(x, weights[int(k)]) if isinstance(x, Tensor) else x for n, x in v.items()}
        for k, v in state.items()
    }
    optimizer.load_state_dict(complete)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
