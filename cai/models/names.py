"""Names of models that need no torch to be known."""

REFERENCE = "reference"
"""Stands for the embedded reference model."""
