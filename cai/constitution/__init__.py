"""Constitutions: load, lint, lock."""

from cai.constitution.load import load_constitution
from cai.constitution.schema import Constitution, Principle

__all__ = ["Constitution", "Principle", "load_constitution"]
