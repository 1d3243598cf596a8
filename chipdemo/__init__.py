"""Chip Inspector: inspect a chip's image, see why, and train the next model."""

__version__ = "0.1.0"
