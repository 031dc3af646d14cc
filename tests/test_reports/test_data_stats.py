"""The chart of a data set's statistics."""

import pytest

from deeplabctl.data.stats import SplitCounts, Statistics
from deeplabctl.reports.data_stats import draw_statistics


def test_chart_has_a_bar_for_each_split_as_long_as_its_share_of_the_largest():
    train = SplitCounts("train", 2, [20, 10, 0], [2, 2, 0], 5, (4, 5.0, 6), (5, 5.0, 5))
    val = SplitCounts("val", 1, [0, 0, 20], [0, 0, 1], 0, (4, 4.0, 4), (5, 5.0, 5))

    def lengths(*splits):
        drawn = draw_statistics("set", Statistics(("background", "disc", "square"), list(splits), [0.5, 1.0, 0.0]))
        blue = (drawn == (46, 102, 168)).all(-1)[80:]  # the first split's; without the key above
        return sorted({int(row.sum()) for row in blue if row.any()})

    # Background: 2/3 of the pixels and every image; disc: 1/3 and every image. The largest share has 360 pixels.
    assert lengths(train) == [pytest.approx(180 + 360, abs=3), pytest.approx(360 + 360, abs=3)]
    assert lengths(train, val) == [pytest.approx(120 + 360, abs=3), pytest.approx(240 + 360, abs=3)]
