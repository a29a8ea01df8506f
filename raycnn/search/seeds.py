"""Seeds: one number for each purpose, all from the search's."""

import hashlib


def derived_seed(seed: int, purpose: str) -> int:
    """One number for each purpose, all from the search's seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "big")
