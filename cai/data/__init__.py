"""Data of other people in, data for other tools out."""
