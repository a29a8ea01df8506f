"""Joint search over regularizers and optimizers for CNNs that are accurate and robust, distributed with Ray."""

__version__ = "0.1.0"
