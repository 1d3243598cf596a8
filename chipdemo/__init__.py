"""Chip Inspector: inspect a chip's image, see why, and train the next model."""

import os

__version__ = "0.1.0"
# Before numpy is imported: after a product of matrices, OpenBLAS's threads would spin for 30 ms and slow down
# the network that runs next
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles
