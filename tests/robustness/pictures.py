"""Made-up pictures, and what the tests look at in changed ones."""

import numpy as np


def some_pictures(count: int, height: int = 32, width: int = 32) -> np.ndarray:
    """Smooth colours with one sharp square each."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:height, :width]
    phase = random.uniform(0, 6, (count, 1, 1, 3))
    made = 127 + 100 * np.sin(y[None, :, :, None] / 5 + x[None, :, :, None] / 9 + phase)
    made[:, 4 : height // 2, 2 : width // 2] = random.uniform(0, 255, (count, 1, 1, 3))
    return made.astype(np.uint8)


def spectrum(difference: np.ndarray) -> np.ndarray:
    """Power of (n, …, 32, 32, 3) by distance from the zero frequency, 16 rings, mean over everything else: (n, 16)."""
    power = np.abs(np.fft.fft2(difference, axes=(-3, -2))) ** 2
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32)))
    ring = np.minimum((frequencies * 32).astype(int), 15)
    mean = power.mean(axis=-1).reshape(len(difference), -1, 32, 32).mean(axis=1)
    return np.stack([mean[:, ring == r].mean(axis=-1) for r in range(16)], axis=-1)
