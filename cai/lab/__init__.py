"""Experiments on the reference world, where it is known what is true of every answer."""
