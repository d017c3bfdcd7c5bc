"""Constitutions: load, check and freeze them.

Example:
    >>> from cai.constitution import load_constitution
    >>> constitution = load_constitution("harmless")
    >>> constitution.principles["harm/insult"].title
    'No insults'
"""

from cai.constitution.load import load_constitution
from cai.constitution.schema import Constitution, Principle

__all__ = ["Constitution", "Principle", "load_constitution"]
