"""Seeds for independent streams of random numbers, derived from one seed and what each stream is for."""

from __future__ import annotations

import hashlib


def stream_seed(seed: int, *key: object) -> int:
    """A 63-bit seed that depends on every part of the key and on nothing else."""
    digest = hashlib.blake2b("\x1f".join([str(seed), *map(str, key)]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
