"""Bodies that are no phantoms: turned as the formula says, with a lesion where it should be."""

import numpy as np

from learnit_utils.experiments import strangers
from learnit_utils.forward import tomography
from learnit_utils.signals import phantoms


def test_turning_by_a_right_angle_turns_the_picture():
    shapes = phantoms.ellipses("test", limit=1)[0]
    plain, turned = (
        phantoms.sinogram(s, np.array([0.0, np.pi / 2]), tomography.detector(64))
        for s in (shapes, strangers.turned(shapes, np.pi / 2))
    )
    np.testing.assert_allclose(turned[0], plain[1], atol=1e-12)


def test_turning_there_and_back_changes_nothing():
    shapes = phantoms.ellipses("test", limit=1)[0]
    back = strangers.turned(strangers.turned(shapes, 0.7), -0.7)
    np.testing.assert_allclose(back, shapes, atol=1e-12)
    np.testing.assert_array_equal(strangers.turned(shapes, 0.7)[:, :3], shapes[:, :3])


def test_the_bodies():
    bodies = strangers.bodies(32)
    assert all(u.shape == (32, 32, 1) and 0 <= u.min() < u.max() <= 1 for u in bodies.values())
    lesion = bodies["with a lesion"] - bodies["of the class"]
    assert lesion.min() == 0
    assert lesion.max() > 0.3
    row, column = np.argwhere(lesion[..., 0] > 0.3).mean(axis=0) / 32 * 2 - 1
    np.testing.assert_allclose([column, row], strangers.LESION[0, 3:5], atol=0.06)


def test_the_slice_of_a_head_is_a_head():
    u = strangers.head_slice()
    assert u.shape == (256, 256)
    assert (u.min(), u.max()) == (0, 1)
    assert u[100:150, 100:150].mean() > 5 * u[:20].mean()
