"""A place with known cameras, as COLMAP leaves it; for tests that have pycolmap."""

import numpy as np
from PIL import Image

from learnit_utils.signals import landmarks


def build(root, model="PINHOLE", params=(90.0, 95.0, 33.0, 23.0), images=30):
    """COLMAP's model below dense/, learnit's arrays beside it, computed from the same poses."""
    import pycolmap

    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 2, 1, images // 2
    options.camera_width, options.camera_height = 64, 48
    options.camera_model_id = getattr(pycolmap.CameraModelId, model)
    options.camera_params = list(params)
    pycolmap.set_random_seed(0)
    made = pycolmap.synthesize_dataset(options)
    (root / "dense/sparse").mkdir(parents=True)
    (root / "dense/images").mkdir()
    made.write(str(root / "dense/sparse"))
    rng = np.random.default_rng(0)
    told = {k: [] for k in landmarks.ARRAYS}
    for im in sorted(made.images.values(), key=lambda i: i.name):
        picture = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(picture).save(root / "dense/images" / im.name)
        world = np.eye(4)
        world[:3] = im.cam_from_world().matrix()
        camera = made.cameras[im.camera_id]
        seen = [made.points3D[p.point3D_id].xyz for p in im.points2D if p.has_point3D()]
        ahead = np.array([(world @ [*x, 1])[2] for x in seen])
        lens = np.array(camera.calibration_matrix())
        told["kinv_mats"].append(np.linalg.inv(lens))
        told["c2w_mats"].append(np.linalg.inv(world)[:3])
        told["res_mats"].append([64, 48])
        told["bds"].append(np.quantile(ahead, [0.001, 0.999]))
    for name, values in told.items():
        np.save(root / f"{name}.npy", np.array(values))
    return made
