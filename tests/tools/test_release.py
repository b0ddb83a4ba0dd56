"""A release changes the version in one place and heads the changelog."""

import sys

import pytest
import yaml
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import release

PYPROJECT = '[project]\nname = "x"\nversion = "0.1.0"\n'
CHANGELOG = "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n\n## 0.1.0 (2026-01-01)\n"


def test_a_release_moves_what_is_unreleased_under_its_heading():
    pyproject, changelog = release.released(PYPROJECT, CHANGELOG, "0.2.0", "2026-02-03")
    assert 'version = "0.2.0"' in pyproject
    assert "## Unreleased\n\n## 0.2.0 (2026-02-03)\n\n### Added\n\n- A thing." in changelog


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "1.0", "v1.0.0", ""])
def test_a_version_must_be_higher_than_the_last(version):
    with pytest.raises(release.ReleaseError, match="expected"):
        release.released(PYPROJECT, CHANGELOG, version, "2026-02-03")


def test_a_release_needs_entries():
    empty = CHANGELOG.replace("### Added\n\n- A thing.\n\n", "")
    with pytest.raises(release.ReleaseError, match="entries"):
        release.released(PYPROJECT, empty, "0.2.0", "2026-02-03")


def test_the_projects_own_files_can_be_released():
    texts = [(ROOT / f).read_text("utf8") for f in ("pyproject.toml", "CHANGELOG.md")]
    release.released(*texts, "99.0.0", "2026-02-03")


def test_the_version_stands_in_one_place():
    import tomllib

    import learnit_utils

    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]["version"]
    assert learnit_utils.__version__ == version
    for name in ("CITATION.cff", "_config.yml", "learnit_utils/__init__.py"):
        assert version not in (ROOT / name).read_text("utf8")


def test_the_hosted_tests_cover_what_is_supported():
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf8"))["jobs"]
    assert jobs["versions"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    oldest = next(
        line for line in (ROOT / "pyproject.toml").read_text("utf8").splitlines() if "jax>=" in line
    )
    oldest = oldest.strip(' ",').replace(">=", "==")
    assert jobs["versions"]["strategy"]["matrix"]["jax"] == [oldest, "jax"]
