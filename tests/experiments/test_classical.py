"""Reconstructions without a network, scored."""

import numpy as np
import pytest

from learnit_utils.experiments import classical
from learnit_utils.experiments.protocol import tuned_method
from learnit_utils.forward import pixels, tomography
from learnit_utils.metrics import decibel


def scans(count=2, size=16, views=4):
    y, x = np.mgrid[:size, :size] / size - 0.5
    discs = [(x**2 + y**2 < (0.2 + 0.1 * i) ** 2).astype(np.float32) for i in range(count)]
    return tomography.scan_tasks(pixels.image_tasks(np.stack(discs)[..., None]), views)


def test_a_known_picture_has_its_known_score():
    data = scans()

    def half(sinogram, angles, value):
        assert (sinogram.shape, angles.shape) == ((4, 16), (4,))
        return np.full((16, 16), value)

    exact = [decibel(np.mean((0.5 - u) ** 2)) for u in np.asarray(data.each.query)]
    np.testing.assert_allclose(classical.psnr(half, data, dict(value=0.5)), exact, rtol=1e-5)
    ones = classical.psnr(half, data, dict(value=1.0))
    np.testing.assert_allclose(classical.psnr(half, data, dict(value=7.0)), ones)  # clipped


@pytest.mark.parametrize("name", ["FBP", "SART"])
def test_more_views_are_better(name):
    method, settings = classical.METHODS[name]
    few, many = (classical.psnr(method, scans(views=v), settings[0]).mean() for v in (2, 24))
    assert many > few + 1


def test_the_setting_is_chosen_where_the_test_is_not():
    def level(sinogram, angles, value):
        return np.full((16, 16), value)

    def score(data, setting):
        return classical.psnr(level, data, setting)

    settings = [dict(value=v) for v in (0.0, 0.2, 1.0)]
    small, large = scans(1), scans(2).take(np.array([1]))
    chosen = tuned_method(score, settings, small, lambda: large)
    assert chosen["setting"] == dict(value=0.2)
    assert len(chosen["psnr"]) == 1


def test_every_method_has_settings_it_takes():
    assert list(classical.METHODS) == ["FBP", "SART", "TV"]
    data = scans(1, views=2)
    for method, settings in classical.METHODS.values():
        quick = settings[0] | ({"rounds": 1} if "rounds" in settings[0] else {})
        assert np.isfinite(classical.psnr(method, data, quick)).all()
