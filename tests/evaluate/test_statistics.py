"""Without data there is no figure: neither 0.0 nor 0.5 stands for "nothing to measure"."""

import pytest

from cai.evaluate.statistics import (
    expected_calibration_error,
    mean,
    means,
    proportion,
    reliability,
    wilson,
)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: mean([]),
        lambda: wilson(0, 0),
        lambda: expected_calibration_error(reliability([], [])),
    ],
)
def test_no_figure_of_nothing(figure):
    with pytest.raises(ValueError, match="of nothing"):
        figure()


def test_what_has_no_data_is_left_out():
    assert means(full=[1.0, 0.0], empty=[]) == {"full": 0.5}
    assert proportion(0, 0) == {"n": 0}
    some = proportion(3, 4)
    assert (some["value"], some["n"]) == (0.75, 4) and 0 < some["low"] < 0.75 < some["high"] < 1
