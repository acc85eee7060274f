"""t-SNE keeps groups apart that are apart, and is the same every time."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from genlab.errors import InputError
from genlab.evaluation import neighbours
from genlab.evaluation.neighbours import tsne_plane


def test_groups_far_apart_in_ten_dimensions_are_apart_in_the_plane():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 30)
    codes = 8.0 * rng.normal(size=(4, 10))[groups] + rng.normal(size=(120, 10))
    plane = tsne_plane(codes)
    assert plane.shape == (120, 2) and np.isfinite(plane).all()
    assert KNeighborsClassifier(5).fit(plane, groups).score(plane, groups) == 1.0
    np.testing.assert_array_equal(plane, tsne_plane(codes))


def test_only_the_first_points_are_laid_out(monkeypatch):
    monkeypatch.setattr(neighbours, "MAX_POINTS", 20)
    codes = np.random.default_rng(0).normal(size=(50, 1))
    np.testing.assert_array_equal(tsne_plane(codes), tsne_plane(codes[:20]))


@pytest.mark.parametrize("codes", [np.zeros((3, 2)), np.full((9, 2), np.nan), np.zeros(9)])
def test_codes_that_cannot_be_laid_out_are_refused(codes):
    with pytest.raises(InputError, match="at least 4 finite codes"):
        tsne_plane(codes)
