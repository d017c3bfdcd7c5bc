"""Prompts with their answers packed into one batch, so that shared tokens are read once."""
