"""Experiments of the paper in small, on the reference world: ``cai paper``."""
