"""Chip Inspector: inspect a chip's photograph, see why, and train the next model."""

__version__ = "0.1.0"
