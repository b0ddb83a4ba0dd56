"""A sinogram from a file: every format, its angles, its axis, and what is refused."""

import io
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from learnit_utils.forward import reconstruct, tomography
from learnit_utils.signals import phantoms, scans
from learnit_utils.signals.base import DataError

N, VIEWS = 32, 24
SHAPES = phantoms.ellipses("test", limit=1)[0]
ANGLES = tomography.even_angles(VIEWS)
SINOGRAM = phantoms.sinogram(SHAPES, ANGLES, tomography.detector(N)).astype(np.float32)
STACK = np.stack([0 * SINOGRAM, SINOGRAM, 2 * SINOGRAM], axis=1)  # (views, rows, detectors)


def tiff(path, pages):
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=others)


def npz(path, **arrays):
    np.savez(path, **arrays)


WRITERS = {  # file -> (writer, how close the values are, what is said of the angles)
    "a.npz": (lambda p: npz(p, sinogram=SINOGRAM, angles=ANGLES), "in radians"),
    "b.npz": (lambda p: npz(p, sinogram=SINOGRAM, degrees=np.rad2deg(ANGLES)), "in degrees"),
    "c.npz": (lambda p: npz(p, sinogram=STACK, angles=ANGLES), "in radians"),
    "d.npz": (lambda p: npz(p, sinogram=np.float64(SINOGRAM), angles=ANGLES), "in radians"),
    "e.npy": (lambda p: np.save(p, SINOGRAM), "none are given"),
    "f.npy": (lambda p: np.save(p, STACK), "none are given"),
    "g.npy": (lambda p: np.save(p, np.asfortranarray(SINOGRAM)), "none are given"),
    "h.tif": (lambda p: tiff(p, [SINOGRAM]), "none are given"),
    "i.tiff": (lambda p: tiff(p, STACK), "none are given"),
    "J.TIF": (lambda p: tiff(p, STACK), "none are given"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_scan(tmp_path, name):
    write, told = WRITERS[name]
    write(tmp_path / name)
    scan = scans.read(tmp_path / name)
    np.testing.assert_array_equal(scan.sinogram, SINOGRAM)
    np.testing.assert_allclose(scan.angles, ANGLES, atol=1e-6)
    assert scan.sinogram.dtype == scan.angles.dtype == np.float32
    about = scan.provenance
    assert (about["source"], about["views"], about["detectors"]) == (name, VIEWS, N)
    assert told in about["angles"]
    assert re.fullmatch("[0-9a-f]{64}", about["data_sha256"])


def test_whole_numbers_of_a_camera_are_values(tmp_path):
    counts = (1000 * SINOGRAM / SINOGRAM.max()).astype(np.uint16)
    tiff(tmp_path / "a.tif", [counts])
    np.testing.assert_array_equal(scans.read(tmp_path / "a.tif").sinogram, counts)


def test_a_row_of_a_stack_is_taken(tmp_path):
    np.save(tmp_path / "a.npy", STACK)
    np.testing.assert_array_equal(scans.read(tmp_path / "a.npy", row=2).sinogram, 2 * SINOGRAM)
    with pytest.raises(DataError, match="row = 3, expected 0 to 2"):
        scans.read(tmp_path / "a.npy", row=3)


def test_angles_may_stand_beside_in_degrees(tmp_path):
    np.save(tmp_path / "a.npy", SINOGRAM)
    degrees = np.linspace(0, 120, VIEWS)
    (tmp_path / "a.angles.txt").write_text("\n".join(f"{d:.6f}" for d in degrees))
    scan = scans.read(tmp_path / "a.npy")
    np.testing.assert_allclose(scan.angles, np.deg2rad(degrees), atol=1e-6)
    assert scan.provenance["angles"] == "of a.angles.txt, in degrees"


@pytest.mark.parametrize("axis", [13.0, 15.5, 18.25])
@pytest.mark.parametrize("within", [True, False])
def test_an_axis_beside_the_middle_is_brought_there(tmp_path, axis, within):
    body = np.array([[1.0, 0.5, 0.6, 0.1, -0.1, 0.3]])  # away from the ends of the detector
    moved, straight = (
        phantoms.sinogram(body, ANGLES, (np.arange(N) - a) / N) for a in (axis, N // 2)
    )
    more = dict(axis=axis) if within else {}
    npz(tmp_path / "a.npz", sinogram=moved, angles=ANGLES, **more)
    scan = scans.read(tmp_path / "a.npz", axis=None if within else axis)
    error, before = (np.linalg.norm(p - straight) for p in (scan.sinogram, moved))
    assert error < 0.05 * np.linalg.norm(straight)
    assert before > 1.5 * error
    assert (error < 1e-5) == (axis % 1 == 0)


@settings(deadline=None, max_examples=30)
@given(many=st.integers(8, 90), size=st.integers(8, 90), seed=st.integers(0, 99))
def test_joining_detectors_keeps_what_arrived_and_where(many, size, seed):
    """The mass, and its middle, away from the ends; a scan that is coarse enough stays as it is."""
    p = np.zeros((3, many), np.float32)
    inner = slice(many // 4, 3 * many // 4)
    p[:, inner] = np.random.default_rng(seed).random((3, many))[:, inner] + 0.1
    scan = scans.Scan(p, ANGLES[:3], dict(detectors=many))
    found = scans.binned(scan, size)
    if many <= size:
        assert found is scan
        return
    assert found.sinogram.shape == (3, size)
    assert found.provenance["detectors"] == size
    fine, coarse = tomography.detector(many), tomography.detector(size)
    np.testing.assert_allclose(found.sinogram.mean(axis=1), p.mean(axis=1), rtol=1e-4)
    middles = [(u * at).sum(1) / u.sum(1) for u, at in ((p, fine), (found.sinogram, coarse))]
    np.testing.assert_allclose(*middles, atol=0.5 / size**1.5)


def test_a_file_of_many_detectors_is_reconstructed_like_a_scan_of_few(tmp_path):
    fine = phantoms.sinogram(SHAPES, ANGLES, tomography.detector(128))
    npz(tmp_path / "a.npz", sinogram=fine, angles=ANGLES)
    scan = scans.binned(scans.read(tmp_path / "a.npz"), N)
    pictures = [reconstruct.fbp(p, ANGLES) for p in (scan.sinogram, SINOGRAM)]
    assert np.sqrt(np.mean((pictures[0] - pictures[1]) ** 2)) < 0.08


def broken(name, content):
    return name, lambda p: p.write_bytes(content)


def saved(array):
    f = io.BytesIO()
    np.save(f, array, allow_pickle=True)
    return f.getvalue()


def zipped(**arrays):
    f = io.BytesIO()
    np.savez(f, **arrays)
    return f.getvalue()


def spoiled(value, at=(3, 5)):
    p = SINOGRAM.copy()
    p[at] = value
    return p


RGB = Image.fromarray(np.zeros((12, 12, 3), np.uint8))
HUGE = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (900000000, 900000000), }"
)
BAD = {
    "of another kind": (*broken("a.csv", b"1,2"), "a.csv: expected a sinogram, one of .npz, .npy"),
    "absent": ("a.npy", lambda p: None, "a.npy: no such file"),
    "folder": ("a.npy", lambda p: p.mkdir(), "a.npy: no such file"),
    "empty": (*broken("a.npy", b""), "a.npy: not a file of NumPy's format"),
    "empty npz": (*broken("a.npz", b""), "a.npz: .*not a zip file"),
    "empty tiff": (*broken("a.tif", b""), "a.tif: cannot identify image file"),
    "cut": (*broken("a.npy", saved(SINOGRAM)[:-9]), "a.npy: .*"),
    "huge": (*broken("a.npy", HUGE.ljust(128) + b"\n"), "a.npy: .*"),
    "cut npz": (*broken("a.npz", zipped(sinogram=SINOGRAM)[:-9]), "a.npz: .*"),
    "pickle": (*broken("a.npy", pickle.dumps(SINOGRAM)), "a.npy: not a file of NumPy's format"),
    "zip as npy": (*broken("a.npy", zipped(sinogram=SINOGRAM)), "a.npy: not a file of NumPy's"),
    "objects": (*broken("a.npy", saved(np.array([[None] * 9] * 9))), "a.npy: .*"),
    "objects in npz": (
        *broken("a.npz", zipped(sinogram=np.array([[None] * 9] * 9))),
        "a.npz: holds Python objects, expected numbers",
    ),
    "complex": (*broken("a.npy", saved(SINOGRAM + 1j)), "a.npy: a sinogram of type complex64"),
    "texts": (*broken("a.npy", saved(np.array([["a"] * 9]))), "a.npy: a sinogram of type <U1"),
    "one axis": (*broken("a.npy", saved(SINOGRAM[0])), r"a.npy: a sinogram of shape \(32,\)"),
    "four axes": (*broken("a.npy", saved(STACK[None])), "a.npy: a sinogram of shape"),
    "no views": (*broken("a.npy", saved(SINOGRAM[:0])), "a.npy: .*"),
    "narrow": (*broken("a.npy", saved(SINOGRAM[:, :7])), "with at least 8 detectors"),
    "nan": (
        *broken("a.npy", saved(spoiled(np.nan))),
        "a.npy: 1 values that are not finite, the first in view 3 at detector 5",
    ),
    "inf": (*broken("a.npy", saved(spoiled(-np.inf))), "1 values that are not finite"),
    "flat": (*broken("a.npy", saved(np.ones((9, 9)))), "a.npy: all values are 1, there is nothing"),
    "no sinogram": (
        *broken("a.npz", zipped(data=SINOGRAM)),
        "a.npz: an array `sinogram` is needed, it holds data",
    ),
    "too few angles": (
        *broken("a.npz", zipped(sinogram=SINOGRAM, angles=ANGLES[:-1])),
        r"a.npz: angles of shape \(23,\) for 24 views",
    ),
    "degrees as angles": (
        *broken("a.npz", zipped(sinogram=SINOGRAM, angles=np.rad2deg(ANGLES))),
        "a.npz: angles up to 172.5, expected radians; degrees go by the name `degrees`",
    ),
    "beyond a turn": (
        *broken("a.npz", zipped(sinogram=SINOGRAM, degrees=5 * np.rad2deg(ANGLES))),
        "a.npz: angles up to 862.5, expected degrees",
    ),
    "nan angles": (
        *broken("a.npz", zipped(sinogram=SINOGRAM, angles=np.nan * ANGLES)),
        "a.npz: angles that are not finite",
    ),
    "both": (
        *broken("a.npz", zipped(sinogram=SINOGRAM, angles=ANGLES, degrees=ANGLES)),
        "a.npz: both angles and degrees, expected one",
    ),
    "axis": (
        *broken("a.npz", zipped(sinogram=SINOGRAM, axis=99.0)),
        "a.npz: axis = 99.0, expected a detector in 0 to 31",
    ),
    "colours": ("a.tif", RGB.save, "a.tif: a page of mode RGB, expected one channel"),
    "pages of several sizes": (
        "a.tif",
        lambda p: tiff(p, [SINOGRAM, SINOGRAM[:, :20]]),
        "a.tif: pages of several sizes",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_named_in_one_line(tmp_path, case):
    name, write, told = BAD[case]
    write(tmp_path / name)
    with pytest.raises(DataError, match=told) as error:
        scans.read(tmp_path / name)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_angles_beside_that_are_no_numbers_are_named(tmp_path):
    np.save(tmp_path / "a.npy", SINOGRAM)
    (tmp_path / "a.angles.txt").write_text("0 1 two")
    with pytest.raises(DataError, match=r"a.angles.txt: expected angles in degrees, one a line"):
        scans.read(tmp_path / "a.npy")


def test_too_few_detectors_are_refused():
    with pytest.raises(DataError, match="size = 4: expected at least 8 detectors"):
        scans.binned(scans.Scan(SINOGRAM, ANGLES, {}), 4)
