"""Outlier channels: those that were planted are found, furthest first, and shown."""

import torch

from lmworks.compress.block_calibration import InputStatistics
from lmworks.compress.stage import ranges_section
from lmworks.report import to_html


def test_planted_channels_are_the_outliers_and_the_widest_layer_comes_first():
    torch.manual_seed(0)
    found = {}
    for name, factors in {"plain": {}, "wide": {5: 60.0, 40: 20.0, 7: 4.0}}.items():
        inputs = torch.randn(500, 64)
        for channel, factor in factors.items():
            inputs[:, channel] *= factor
        found[name] = own = InputStatistics.zeros(64, moments=False)
        for batch in inputs.split(100):
            own.add(batch)
    section = ranges_section(found)
    first, second = section.tables[0].rows
    assert (first[0], first[3], first[5]) == ("wide", 2, "5, 40") and (second[0], second[3]) == ("plain", 0)
    assert first[1] == found["wide"].largest.max() and "<svg" in to_html("", "", [section])
