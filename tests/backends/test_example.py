"""The examples in the docstrings of the backends run as they are written."""

import doctest

import cai.backends


def test_module_example():
    result = doctest.testmod(cai.backends)
    assert result.attempted >= 7
    assert result.failed == 0
