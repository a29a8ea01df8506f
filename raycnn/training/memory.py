"""Batches that the device's memory holds."""

import sys
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


class ByMemory:
    """Does work on some images in parts: at most `most` at once, and half of that whenever they are too many.

    What was too many once is not tried again: one of these serves all passes that take as much memory.
    """

    def __init__(self, most: int = sys.maxsize) -> None:
        self._most = most

    def parts(self, count: int, work: Callable[[int, int], Result]) -> list[Result]:
        """work(first, last) of parts of range(count), in order.

        Raises torch.OutOfMemoryError where the device has no memory for a single one.
        """
        found: list[Result] = []
        first = 0
        while first < count:
            last = min(first + self._most, count)
            try:
                found.append(work(first, last))
                first = last
                continue
            except torch.OutOfMemoryError:
                if last - first == 1:
                    raise
            # Here the error, which held on to what was computed so far, is gone.
            torch.cuda.empty_cache()
            self._most = (last - first) // 2
        return found
