"""Collision models on disk: what is read is what was built, bit by bit, or it is built again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retargeting import collision_cache
from retargeting.capsules import Capsule
from retargeting.collision_cache import KEPT, collision_model, kept_model, model_key, robot_state
from retargeting.collision_pairs import CollisionModel
from retargeting.errors import RetargetingError
from retargeting.kinematics import KinematicTree, TreeArrays
from retargeting.robot_model import RobotModel, load_robot
from retargeting.urdf import Geometry, Shape

ROBOTS = Path(__file__).resolve().parents[2] / "robot_descriptions"
IDENTITY = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])


def assert_same(one: object, two: object, where: str = "model") -> None:
    """The same types, sizes, orders and bits all the way down."""
    assert type(one) is type(two), where
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (two.dtype, two.shape), where
        for flag in ("C_CONTIGUOUS", "ALIGNED", "WRITEABLE"):
            assert one.flags[flag] == two.flags[flag], (where, flag)
        assert one.tobytes() == two.tobytes(), where
    elif isinstance(one, CollisionModel | KinematicTree | Capsule):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(two, field.name), f"{where}.{field.name}")
    elif isinstance(one, tuple | list):
        assert len(one) == len(two), where
        for k, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_same(a, b, f"{where}[{k}]")
    elif isinstance(one, dict):
        assert_same(list(one.items()), list(two.items()), where)
    else:
        assert one == two or (one != one and two != two), where


def some_model(seed: int, capsules: int, pairs: int, names: list[str]) -> CollisionModel:
    """A model of any content that arrays can hold; no robot's."""
    rng = np.random.default_rng(seed)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e308])

    def numbers(*shape: int) -> np.ndarray:
        values = rng.normal(size=shape)
        return np.where(rng.random(shape) < 0.2, rng.choice(special, shape), values)

    def wholes(*shape: int) -> np.ndarray:
        return rng.integers(-1, 2**40, shape)

    b = len(names)
    arrays = TreeArrays(
        wholes(b), numbers(b, 3), numbers(b, 3, 3), numbers(b, 3), rng.random(b) < 0.5,
        wholes(b), numbers(b), numbers(b),
    )  # fmt: skip
    links = rng.integers(0, b, capsules)
    return CollisionModel(
        tree=KinematicTree(tuple(names), arrays),
        capsules=tuple(Capsule(names[k], numbers(3), numbers(3), float(numbers(1)[0])) for k in links),
        bodies=wholes(capsules),
        starts=numbers(capsules, 3),
        ends=numbers(capsules, 3),
        radii=numbers(capsules),
        pairs=wholes(pairs, 2),
        common=wholes(pairs),
        margins=numbers(pairs),
        goal_spares=numbers(pairs),
        fine=rng.random(pairs) < 0.5,
        margin_m=float(rng.random()),
        largest_positions=tuple(numbers(int(rng.integers(0, 4))).tolist()),
        left_out={(names[0], name): f"why {name}" for name in names},
        partly_left_out={(name, names[-1]): name for name in reversed(names)},
        warnings=tuple(names[:2]),
    )


def never(_model: RobotModel) -> CollisionModel:
    raise AssertionError("built although it is kept")


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    # Names of any letters, and of files that no encoding reads.
    names=st.lists(st.text(st.characters()), min_size=1, max_size=4, unique=True),
)
def test_what_is_read_is_what_was_built(
    tmp_path: Path, kestrel: RobotModel, seed: int, sizes: tuple[int, int], names: list[str]
):
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    built = some_model(seed, *sizes, names)
    assert kept_model(lambda: folder, kestrel, lambda _: built) is built
    assert_same(kept_model(lambda: folder, kestrel, never), built)


@pytest.mark.parametrize("name", ["kestrel", "g1", "panda", "so100", "talos_left_arm"])
def test_robots_are_read_as_they_were_built(name: str, tmp_path: Path):
    model = load_robot(ROBOTS / name / "robot.yaml")
    built = collision_model(model)
    kept_model(lambda: tmp_path, model, lambda _: built)
    read = kept_model(lambda: tmp_path, model, never)
    assert_same(read, built)
    for derived in ("levers", "turns", "movers"):
        assert_same(getattr(read, derived), getattr(built, derived), derived)
    q = np.clip(np.full(len(model.joint_names), 0.3), model.lower, model.upper)
    assert_same(read.distances(q), built.distances(q))


def test_a_new_process_reads_what_another_built(
    kestrel: RobotModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    built = collision_model(kestrel)
    monkeypatch.setattr(collision_cache, "collision_folder", lambda: tmp_path / "deep" / "models")
    monkeypatch.setattr(collision_cache, "build_collision_model", lambda _: built)
    monkeypatch.setattr(collision_cache, "_known", {})
    assert collision_model(kestrel) is built
    monkeypatch.setattr(collision_cache, "build_collision_model", never)
    assert collision_model(kestrel) is built
    collision_cache._known.clear()
    assert collision_model(kestrel) is not built
    assert_same(collision_model(kestrel), built)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def grow(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def foreign(file: Path) -> None:
    np.savez(file.open("wb"), bodies=np.zeros(3))


def pickled(file: Path) -> None:
    np.savez(file.open("wb"), bodies=np.array([object], dtype=object))


def folder_in_its_place(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [empty, cut, flip, grow, foreign, pickled])
def test_a_bad_file_costs_a_line_and_is_replaced(
    damage: Callable[[Path], None], kestrel: RobotModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    built = some_model(1, 3, 4, ["base", "hand"])
    kept_model(lambda: tmp_path, kestrel, lambda _: built)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    damage(file)
    assert not caplog.messages
    assert kept_model(lambda: tmp_path, kestrel, lambda _: built) is built
    (line,) = caplog.messages
    assert str(file) in line and "kestrel" in line and "damaged" in line and "\n" not in line
    assert [f.read_bytes() for f in tmp_path.iterdir()] == [whole]
    assert_same(kept_model(lambda: tmp_path, kestrel, never), built)
    assert len(caplog.messages) == 1


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_damage_is_read(kestrel: RobotModel, tmp_path: Path, data: st.DataObject):
    """Whatever bytes are there: the model that was written, or it is built."""
    built = some_model(2, 2, 2, ["base", "hand"])
    kept_model(lambda: tmp_path, kestrel, lambda _: built)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start, len(whole)))
    other = data.draw(st.binary(max_size=stop - start + 3))
    file.write_bytes(whole[:start] + other + whole[stop:])
    same = file.read_bytes() == whole
    found = kept_model(lambda: tmp_path, kestrel, never if same else (lambda _: built))
    if same:
        assert_same(found, built)
    else:
        assert found is built


def test_the_file_of_another_robot_is_not_taken(
    kestrel: RobotModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    other = replace(kestrel, neutral=kestrel.neutral + 1e-9)
    kept_model(lambda: tmp_path, other, lambda _: some_model(1, 3, 4, ["base", "hand"]))
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / file.name.replace(model_key(other), model_key(kestrel)))
    built = some_model(2, 3, 4, ["base", "hand"])
    assert kept_model(lambda: tmp_path, kestrel, lambda _: built) is built
    assert len(caplog.messages) == 1


def test_what_cannot_be_kept_is_built_and_said_once(
    kestrel: RobotModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    built = some_model(1, 3, 4, ["base", "hand"])
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    assert kept_model(lambda: in_the_way / "models", kestrel, lambda _: built) is built
    (line,) = caplog.messages
    assert "cannot be kept" in line and "every start" in line

    caplog.clear()
    folder = tmp_path / "models"
    kept_model(lambda: folder, kestrel, lambda _: built)
    (file,) = folder.iterdir()
    folder_in_its_place(file)
    assert kept_model(lambda: folder, kestrel, lambda _: built) is built
    (line,) = caplog.messages
    assert "cannot be read" in line and "cannot be kept" in line
    # Nothing half written stays behind.
    assert list(folder.iterdir()) == [file]

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    caplog.clear()
    assert kept_model(no_home, kestrel, lambda _: built) is built
    assert len(caplog.messages) == 1


def test_a_robot_that_cannot_be_built_leaves_no_file(kestrel: RobotModel, tmp_path: Path):
    def fail(_model: RobotModel) -> CollisionModel:
        raise RetargetingError("no")

    with pytest.raises(RetargetingError):
        kept_model(lambda: tmp_path, kestrel, fail)
    assert not list(tmp_path.iterdir())


def test_the_ones_used_last_stay(kestrel: RobotModel, tmp_path: Path):
    built = some_model(1, 3, 4, ["base", "hand"])
    kept_model(lambda: tmp_path, kestrel, lambda _: built)
    (used,) = tmp_path.iterdir()
    others = [tmp_path / f"{k:064}.collision" for k in range(KEPT + 10)]
    others[3] = tmp_path / "0123456789abcdefrest.collision.new"
    for k, file in enumerate([used, *others]):
        file.touch()
        os.utime(file, (k, k))
    kept_model(lambda: tmp_path, kestrel, never)
    another = replace(kestrel, neutral=kestrel.neutral + 1e-9)
    kept_model(lambda: tmp_path, another, lambda _: built)
    kept = set(tmp_path.iterdir())
    assert len(kept) == KEPT and used in kept
    assert not kept & set(others[:12]) and set(others[12:]) <= kept
    assert_same(kept_model(lambda: tmp_path, another, never), built)


def test_a_key_holds_all_that_a_model_depends_on(kestrel: RobotModel, tmp_path: Path):
    urdf, description = kestrel.urdf, kestrel.description
    link = next(link for link in urdf.links.values() if link.collisions)
    joint = next(joint for joint in urdf.joints.values() if joint.name in kestrel.joint_names)
    waist, arm = description.chains["waist"], description.chains["left_arm"]
    mesh = tmp_path / "part.stl"
    mesh.write_bytes(b"one")

    def with_urdf(**changes: object) -> RobotModel:
        return replace(kestrel, urdf=replace(urdf, **changes))

    def with_collision(**changes: object) -> RobotModel:
        settings_ = replace(description.collision, **changes)
        return replace(kestrel, description=replace(description, collision=settings_))

    def with_shape(shape: Shape) -> RobotModel:
        return with_urdf(links=urdf.links | {link.name: replace(link, collisions=(shape,))})

    def nudged(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[-1] = np.nextafter(values[-1], 10.0)
        return values

    ranged = replace(joint, lower=joint.lower + 1e-9)
    missing = Shape(Geometry("mesh", mesh=tmp_path / "missing.stl"), IDENTITY)
    changed = [
        kestrel,
        replace(kestrel, lower=nudged(kestrel.lower)),
        replace(kestrel, upper=nudged(kestrel.upper)),
        replace(kestrel, neutral=nudged(kestrel.neutral)),
        replace(kestrel, joint_names=kestrel.joint_names[::-1]),
        with_urdf(joints=urdf.joints | {joint.name: ranged}),
        with_urdf(joints=urdf.joints | {joint.name: replace(joint, pose=nudged(joint.pose))}),
        with_urdf(joints=dict(reversed(urdf.joints.items()))),
        with_urdf(root=joint.child),
        with_shape(Shape(Geometry("box", (0.1, 0.1, 0.1)), IDENTITY)),
        with_shape(Shape(Geometry("box", (0.1, 0.1, 0.1)), nudged(IDENTITY))),
        with_shape(Shape(Geometry("mesh", mesh=mesh), IDENTITY)),
        with_shape(Shape(Geometry("mesh", mesh=mesh, scale=(1.0, 1.0, 2.0)), IDENTITY)),
        with_shape(missing),
        with_collision(margin_m=0.0100000001),
        with_collision(ignore=((link.name, urdf.root),)),
        with_collision(check=((link.name, urdf.root),)),
        replace(
            kestrel,
            description=replace(
                description,
                chains=description.chains | {"waist": waist + arm[:1], "left_arm": arm[1:]},
            ),
        ),
    ]
    keys = [model_key(model) for model in changed]
    assert len(set(keys)) == len(keys) == len({robot_state(model) for model in changed})
    assert keys == [model_key(model) for model in changed]
    # What is in a mesh counts as well, and a robot that is read again is the same one.
    before = model_key(with_shape(Shape(Geometry("mesh", mesh=mesh), IDENTITY)))
    mesh.write_bytes(b"two")
    assert model_key(with_shape(Shape(Geometry("mesh", mesh=mesh), IDENTITY))) != before
    assert model_key(load_robot(ROBOTS / "kestrel" / "robot.yaml")) == keys[0]
    # A mesh that is there at last is another robot.
    key = model_key(with_shape(missing))
    (tmp_path / "missing.stl").write_bytes(b"one")
    assert model_key(with_shape(missing)) != key


def test_a_change_of_the_sources_makes_another_key(kestrel: RobotModel, monkeypatch: pytest.MonkeyPatch):
    before = model_key(kestrel)
    content = collision_cache._content

    def edited(file: Path) -> bytes:
        return content(file)[::-1] if file.name == "finer_pairs.py" else content(file)

    monkeypatch.setattr(collision_cache, "_content", edited)
    collision_cache._state_of_sources.cache_clear()
    assert model_key(kestrel) != before
    monkeypatch.undo()
    collision_cache._state_of_sources.cache_clear()
    assert model_key(kestrel) == before
