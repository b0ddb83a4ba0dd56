"""Beer and Lambert's law on rays that are cut in several ways."""

import jax
import pytest

from learnit_utils.experiments import quadrature


@pytest.mark.parametrize("samples", [1, 3, 16])
def test_bins_are_exact_and_a_wall_loses_everything(samples):
    bins, _, wall = quadrature.uniform_medium_errors(samples, jax.random.key(samples))
    assert bins < 1e-5
    assert wall == pytest.approx(1)


def test_a_short_last_interval_is_right_in_the_limit():
    errors = [quadrature.uniform_medium_errors(n, jax.random.key(n))[1] for n in (8, 64, 512)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2] / 2
