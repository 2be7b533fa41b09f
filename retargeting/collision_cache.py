"""Collision models on disk: building one takes seconds of every start, and gives the same every time.

A file is named for all that a model depends on: the robot's description as it was read, the bytes of its
meshes, the sources of this package and the versions of what they compute with. What changes any of it asks
for another file. One that is damaged, or cannot be read or written, costs a line in the log and the time to
build.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np

from retargeting.cache_folder import user_cache_folder
from retargeting.capsules import Capsule
from retargeting.collision_pairs import CollisionModel, build_collision_model
from retargeting.kinematics import KinematicTree, TreeArrays
from retargeting.robot_model import RobotModel

# Of so many models the ones used last stay.
KEPT = 100
_ENDING = ".collision"
_LARGEST_FILE_BYTES = 100_000_000
_DIGEST_BYTES = hashlib.sha256().digest_size
_ARRAYS = ("bodies", "starts", "ends", "radii", "pairs", "common", "margins", "goal_spares", "fine")

# Stations and tests ask for the same one again.
_known: dict[str, CollisionModel] = {}


def collision_model(model: RobotModel) -> CollisionModel:
    """The capsules and pairs of a robot: known in this process, kept on disk, or built and then kept."""
    state = robot_state(model)
    if state not in _known:
        _known[state] = kept_model(collision_folder, model, build_collision_model)
    return _known[state]


def collision_folder() -> Path:
    """Where models are kept. Raises `RuntimeError` where there is no home."""
    return user_cache_folder() / "collision_models"


def robot_state(model: RobotModel) -> str:
    """A name that changes with anything that is read of a robot for its collision model, except in meshes."""
    urdf, description = model.urdf, model.description
    digest = hashlib.sha256()
    for part in _parts(
        (
            (urdf.root, urdf.links, urdf.joints),
            (model.joint_names, model.lower, model.upper, model.neutral, model.locked_positions),
            (description.chains, {name: site.link for name, site in description.sites.items()}),
            description.collision,
        )
    ):
        digest.update(part)
    return digest.hexdigest()


def model_key(model: RobotModel) -> str:
    """A name that changes with anything that a robot's collision model depends on."""
    digest = hashlib.sha256(_state_of_sources())
    digest.update(robot_state(model).encode())
    for link in model.urdf.links.values():
        for shape in link.collisions:
            if shape.geometry.mesh is not None:
                digest.update(_content(shape.geometry.mesh))
    return digest.hexdigest()


def kept_model(
    folder: Callable[[], Path], model: RobotModel, build: Callable[[RobotModel], CollisionModel]
) -> CollisionModel:
    """The model that is kept in the folder, else what `build` makes of the robot, which is then kept."""
    troubles = []
    try:
        file = folder() / f"{model_key(model)}{_ENDING}"
    except RuntimeError as error:
        logging.getLogger("retargeting").warning("collision models cannot be kept: %s", error)
        return build(model)
    try:
        found = _load(file)
    except OSError as error:
        found = None
        troubles.append(f"cannot be read ({error.strerror or error})")
    except ValueError as error:
        found = None
        troubles.append(str(error))
    if found is None:
        found = build(model)
        try:
            _save(file, found)
        except OSError as error:
            troubles.append(f"cannot be kept ({error.strerror or error}), every start builds it again")
    if troubles:
        told = "; ".join(troubles)
        logging.getLogger("retargeting").warning("%s: collision model of %s: %s", file, model.name, told)
    return found


def _parts(value: Any) -> Iterator[bytes]:
    """The bytes of a value and of all in it, each with its type and length: others have other bytes."""
    if isinstance(value, np.ndarray):
        yield f"array {value.dtype.str} {value.shape} ".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif is_dataclass(value):
        yield f"{type(value).__name__} ".encode()
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)} ".encode()
        for item in value.items():
            yield from _parts(item)
    elif isinstance(value, tuple | list):
        yield f"sequence {len(value)} ".encode()
        for item in value:
            yield from _parts(item)
    else:
        # Of numbers that is all digits, and ASCII for any name a file may have.
        text = ascii(value)
        yield f"{type(value).__name__} {len(text)} {text} ".encode()


@cache
def _state_of_sources() -> bytes:
    """Changes when any source of this package does: nobody has to know which of them make a model."""
    digest = hashlib.sha256(f"{np.__version__} {numba.__version__} ".encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(_content(file))
    return digest.digest()


def _content(file: Path) -> bytes:
    """A digest of a file's bytes, or of why they cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError as error:
        return hashlib.sha256(f"unread: {error!a}".encode()).digest()


def _save(file: Path, model: CollisionModel) -> None:
    """Write the file whole or not at all, and remove the oldest. Raises `OSError`."""
    body = _encoded(model)
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.stem[:16], suffix=f"{_ENDING}.new")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(_checksum(file, body) + body)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    # Others may be removing them as well.
    with suppress(OSError):
        files = sorted(file.parent.glob(f"*{_ENDING}*"), key=lambda f: f.stat().st_mtime, reverse=True)
        for old in files[KEPT:]:
            old.unlink(missing_ok=True)


def _load(file: Path) -> CollisionModel | None:
    """What the file holds, None without one. Raises `OSError`; `ValueError` for other than was written."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    body = data[_DIGEST_BYTES:]
    if len(data) > _LARGEST_FILE_BYTES or data[:_DIGEST_BYTES] != _checksum(file, body):
        raise ValueError("the file is damaged and replaced")
    with suppress(OSError):
        os.utime(file)
    return _decoded(body)


def _checksum(file: Path, body: bytes) -> bytes:
    """Of the file's name too: another robot's content under this name is as bad as a damaged one."""
    return hashlib.sha256(file.name.encode() + body).digest()


def _encoded(model: CollisionModel) -> bytes:
    texts = {
        "bodies": model.tree.names,
        "links": [capsule.link for capsule in model.capsules],
        "margin_m": model.margin_m,
        "left_out": [[*pair, why] for pair, why in model.left_out.items()],
        "partly_left_out": [[*pair, why] for pair, why in model.partly_left_out.items()],
        "warnings": model.warnings,
    }
    stream = io.BytesIO()
    np.savez(
        stream,
        texts=np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8),
        largest_positions=np.array(model.largest_positions, dtype=np.float64),
        segments=np.array([(c.start, c.end) for c in model.capsules], dtype=np.float64).reshape(-1, 2, 3),
        capsule_radii=np.array([c.radius_m for c in model.capsules], dtype=np.float64),
        **{f"tree_{name}": value for name, value in model.tree.arrays._asdict().items()},
        **{name: getattr(model, name) for name in _ARRAYS},
    )
    return stream.getvalue()


def _decoded(body: bytes) -> CollisionModel:
    with np.load(io.BytesIO(body), allow_pickle=False) as stored:
        kept = {name: stored[name] for name in stored.files}
    texts = json.loads(kept["texts"].tobytes())
    tree = TreeArrays(*(kept[f"tree_{name}"] for name in TreeArrays._fields))
    capsules = zip(texts["links"], kept["segments"], kept["capsule_radii"].tolist(), strict=True)
    return CollisionModel(
        tree=KinematicTree(tuple(texts["bodies"]), tree),
        capsules=tuple(Capsule(link, start, end, radius_m) for link, (start, end), radius_m in capsules),
        margin_m=texts["margin_m"],
        largest_positions=tuple(kept["largest_positions"].tolist()),
        left_out={(a, b): why for a, b, why in texts["left_out"]},
        partly_left_out={(a, b): why for a, b, why in texts["partly_left_out"]},
        warnings=tuple(texts["warnings"]),
        **{name: kept[name] for name in _ARRAYS},
    )
