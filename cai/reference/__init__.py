"""The reference model and its closed world, in which the truth about every text is known.

The rest of ``cai`` knows this package only as a shipped model and as its gold metrics.
"""
