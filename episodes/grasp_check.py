"""Was the object really grasped, lifted and set down, and do force and touch tell the same story?

From the object's own pose topic: lifted by 5 cm or more, at rest within 3 cm of the goal at the end. From
the sensors of the hand that did it: the pads (sum of pressure times taxel area) touch while the object is
in the air, and the wrist carries its weight then (vertical force in the robot's root, compared with the
same wrist before anything was touched) and not while nothing is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.attached_model import AttachedModel, attached_model
from episodes.bag import Bag
from episodes.errors import EpisodeError
from episodes.message_types import IMAGE, POSE_STAMPED, WRENCH_STAMPED
from episodes.result import CheckResult
from episodes.samples import PoseSamples

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

NAME = "grasp"
OFF_TABLE_M = 0.01
REST_S = 0.2


@dataclass(frozen=True)
class GraspBounds:
    """`lift_m`, `goal_m`, `rest_m` (movement in the last 0.2 s) bound the object; the rest its agreement."""

    lift_m: float = 0.05
    goal_m: float = 0.03
    rest_m: float = 0.005
    contact_n: float = 0.5
    contact_while_lifted: float = 0.95
    loaded_while_lifted: float = 0.9
    loaded_without_contact: float = 0.1


@dataclass(frozen=True)
class ObjectMotion:
    """How an object moved: metres in its topic's frame; `lifted` ``(n,)`` marks when it was off its place."""

    name: str
    samples: PoseSamples
    lift_m: float
    final_m: Array
    rest_m: float
    lifted: NDArray[np.bool_]


def object_motion(name: str, samples: PoseSamples) -> ObjectMotion:
    """Lift, end and rest of one object's poses (at least one)."""
    position = samples.pose[:, :3]
    seconds = (samples.stamp_ns - samples.stamp_ns[0]).astype(np.float64) * 1e-9
    start = np.median(position[seconds <= REST_S], axis=0)
    last = position[seconds >= seconds[-1] - REST_S]
    final = np.median(last, axis=0)
    height = position[:, 2] - start[2]
    return ObjectMotion(
        name=name,
        samples=samples,
        lift_m=float(height.max()),
        final_m=final,
        rest_m=float(np.linalg.norm(last - final, axis=1).max()),
        lifted=height > OFF_TABLE_M,
    )


def goal_of(bag: Bag, name: str) -> Array | None:
    """The goal (x, y, z in m) of an object by the metadata key `goal_m`: a list, or lists by object.

    Else, in an episode whose skill places something, what the simulated robot's state says (`goal_xyz_m`).
    """
    goal = bag.episode.get("goal_m")
    if goal is None and "place" in str(bag.episode.get("skill", "")):
        state = _simulation_state(bag)
        goal = state.get("goal_xyz_m") if state.get("goal_object", name) == name else None
    if isinstance(goal, dict):
        goal = goal.get(name)
    if isinstance(goal, str):
        goal = goal.replace(",", " ").split() or None
    if goal is None:
        return None
    try:
        values = np.array([float(value) for value in goal])
    except (TypeError, ValueError) as error:
        raise EpisodeError(bag.path, f"metadata goal_m is {goal!r}; x, y, z in metres expected") from error
    if values.shape != (3,) or not np.isfinite(values).all():
        raise EpisodeError(bag.path, f"metadata goal_m is {goal!r}; x, y, z in metres expected")
    return values


def _simulation_state(bag: Bag) -> dict[str, str]:
    """The values of the simulated robot's last state; empty where it was not recorded."""
    topic = bag.topic("simulated_robot/state")
    stream = bag.streams.get(topic)
    if stream is None or stream.type != "diagnostic_msgs/msg/DiagnosticStatus" or not stream.payloads:
        return {}
    return {item.key: item.value for item in bag.decode(topic, stream.count - 1).values}


def _resampled(at_ns: IntArray, stamp_ns: IntArray, values: Array) -> Array:
    base = float(stamp_ns[0])
    return np.interp(at_ns.astype(np.float64) - base, stamp_ns.astype(np.float64) - base, values)


def contact_force_n(bag: Bag, model: AttachedModel, hand_link: str, at_ns: IntArray) -> Array | None:
    """Sum over the pads on a hand of pressure times taxel area (N) at given times; None without pads."""
    total = None
    for name, topic in bag.robot_topics("tactile", IMAGE).items():
        pad = model.pads.get(name)
        if pad is None:
            raise EpisodeError(bag.path, f"robot.yaml has no tactile pad {name!r} for topic {topic}")
        if bag.streams[topic].count == 0:
            continue
        way = model.tree.path(pad.link)
        if hand_link != pad.link and hand_link not in {joint.parent for joint in way}:
            continue
        samples = bag.tactile(topic)
        force = samples.pressure_pa.sum(axis=(1, 2)) * pad.taxel_area_m2
        here = _resampled(at_ns, samples.stamp_ns, force)
        total = here if total is None else total + here
    return total


def vertical_force_and_height(
    bag: Bag, model: AttachedModel, name: str, at_ns: IntArray
) -> tuple[Array, Array]:
    """The wrist sensor's force along the root link's z (N), and its z (m), at given times.

    Both ``(n,)``, by the measured joints.
    """
    samples = bag.wrenches(bag.topic(f"wrench/{name}"))
    states = bag.joints(bag.topic("joint_states"))
    q = np.stack([_resampled(at_ns, states.stamp_ns, column) for column in states.position.T], axis=1)
    force = np.stack(
        [_resampled(at_ns, samples.stamp_ns, column) for column in samples.wrench[:, :3].T], axis=1
    )
    link = model.wrenches[name]
    placement = model.tree.place([link], states.names, q)[link]
    vertical: Array = np.einsum("nj,nj->n", placement.rotation[:, 2], force)
    return vertical, placement.position[:, 2]


def acceleration_of(values: Array, stamp_ns: IntArray, window_s: float = 0.1) -> Array:
    """Second derivative ``(n,)`` per s² of evenly sampled values, of the parabola through each window."""
    if len(values) < 3:
        return np.zeros(len(values))
    period_s = float(np.median(np.diff(stamp_ns))) * 1e-9
    half = max(1, round(0.5 * window_s / period_s))
    squares = np.arange(-half, half + 1, dtype=np.float64) ** 2
    weights = squares - squares.mean()
    padded = np.pad(values, half, mode="edge")
    second: Array = 2.0 * np.convolve(padded, weights, mode="valid") / float(weights @ weights)
    return second / period_s**2


def weight_of_empty_hand(vertical_n: Array, acceleration_m_s2: Array) -> tuple[float, float]:
    """What an empty hand reads at rest (N), and more per m/s² upwards (kg).

    Least squares, without the samples that a jolt takes far from it.
    """
    rest_n = float(np.median(vertical_n))
    if float(np.abs(acceleration_m_s2).max(initial=0.0)) < 0.1:
        return rest_n, 0.0
    kept = np.ones(len(vertical_n), dtype=bool)
    mass_kg = 0.0
    for _ in range(3):
        columns = np.stack([np.ones(int(kept.sum())), acceleration_m_s2[kept]], axis=1)
        (rest_n, mass_kg), *_ = np.linalg.lstsq(columns, vertical_n[kept], rcond=None)
        error = np.abs(vertical_n - rest_n - mass_kg * acceleration_m_s2)
        kept = error <= 3.0 * max(float(np.median(error)), 1e-6)
    return float(rest_n), float(mass_kg)


@dataclass(frozen=True)
class Agreement:
    """Of one hand with an object's motion; shares 0..1, all arrays ``(n,)`` at the object's stamps."""

    wrench: str
    contact_n: Array
    load_n: Array
    contact_while_lifted: float
    loaded_while_lifted: float
    loaded_without_contact: float
    correlation: float
    median_contact_n: float
    median_load_n: float
    onset_lag_s: float
    release_lag_s: float


def hand_agreement(
    name: str,
    stamp_ns: IntArray,
    lifted: NDArray[np.bool_],
    contact_n: Array,
    vertical_n: Array,
    height_m: Array,
    bounds: GraspBounds,
) -> Agreement | None:
    """How touch and force of one hand agree; None where the hand never touches or nothing was lifted.

    The load is the force without the hand's own weight and inertia, as found while it was empty.
    """
    contact = contact_n > bounds.contact_n
    if not contact.any() or not lifted.any():
        return None
    free = ~contact & ~lifted
    acceleration = acceleration_of(height_m, stamp_ns)
    zero, mass_kg = 0.0, 0.0
    if free.any():
        zero, mass_kg = weight_of_empty_hand(vertical_n[free], acceleration[free])
    load = _smooth(vertical_n - zero - mass_kg * acceleration, stamp_ns)
    # Which way a sensor counts weight is its own business; that it does so while lifting is ours.
    load = load * (1.0 if np.median(load[lifted]) >= 0.0 else -1.0)
    median_load = float(np.median(load[lifted]))
    loaded = load > 0.5 * median_load
    seconds = stamp_ns.astype(np.float64) * 1e-9 - float(stamp_ns[0]) * 1e-9
    in_contact = seconds[contact]
    in_air = seconds[lifted]
    together = (
        np.corrcoef(load, np.where(lifted, 1.0, 0.0))[0, 1] if lifted.any() and not lifted.all() else 0.0
    )
    return Agreement(
        wrench=name,
        contact_n=contact_n,
        load_n=load,
        contact_while_lifted=float(np.mean(contact[lifted])),
        loaded_while_lifted=float(np.mean(loaded[lifted])),
        loaded_without_contact=float(np.mean(loaded[~contact])) if (~contact).any() else 0.0,
        correlation=float(together) if math.isfinite(together) else 0.0,
        median_contact_n=float(np.median(contact_n[lifted])),
        median_load_n=median_load,
        onset_lag_s=float(in_air[0] - in_contact[0]),
        release_lag_s=float(in_contact[-1] - in_air[-1]),
    )


def _smooth(values: Array, stamp_ns: IntArray, window_s: float = 0.2) -> Array:
    """Moving median: the load is weight, not the jolts of moving."""
    period = float(np.median(np.diff(stamp_ns))) * 1e-9 if len(stamp_ns) > 1 else window_s
    width = max(1, round(window_s / period))
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    median: Array = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=-1)
    return median


def _object_figures(motion: ObjectMotion, goal: Array | None) -> dict[str, Any]:
    return {
        "lift_m": motion.lift_m,
        "final_m": [float(value) for value in motion.final_m],
        "moving_at_end_m": motion.rest_m,
        "goal_m": None if goal is None else [float(value) for value in goal],
        "goal_distance_m": None if goal is None else float(np.linalg.norm(motion.final_m - goal)),
        "lifted_share": float(np.mean(motion.lifted)),
    }


def check_grasp(
    bag: Bag, goal_m: tuple[float, float, float] | None = None, bounds: GraspBounds | None = None
) -> CheckResult:
    """The grasp check of an episode with object poses; the verdict is on the object that has a goal.

    `goal_m` comes before the metadata's. Raises `EpisodeError` where streams or attachments are unusable.
    """
    bounds = GraspBounds() if bounds is None else bounds
    start = bag.topic("object") + "/"
    topics = {
        topic.removeprefix(start).removesuffix("/pose"): topic
        for topic, stream in bag.streams.items()
        if topic.startswith(start) and stream.type == POSE_STAMPED and stream.count
    }
    if not topics:
        return CheckResult(NAME, skipped="the file holds no object poses")
    motions = {name: object_motion(name, bag.poses(topic)) for name, topic in topics.items()}
    if goal_m is None:
        goals = {name: goal_of(bag, name) for name in motions}
    else:
        goals = {name: np.array(goal_m) for name in motions}
    # Of the objects that have a goal (else of all) the one that was lifted highest.
    wanted = [motion for name, motion in motions.items() if goals[name] is not None] or list(motions.values())
    main = max(wanted, key=lambda motion: motion.lift_m)
    goal = goals[main.name]
    figures: dict[str, Any] = {
        "object": main.name,
        "objects": {
            name: _object_figures(motion, goal if name == main.name else None)
            for name, motion in motions.items()
        },
        "hand": None,
    }
    if goal is None:
        # Not every skill grasps: without a goal the figures stand, unjudged.
        return CheckResult(NAME, figures=figures, skipped="no goal (metadata goal_m, or --goal)")
    problems: list[str] = []
    if not main.lift_m >= bounds.lift_m:
        problems.append(
            f"{main.name} was lifted {1000 * main.lift_m:.1f} mm, "
            f"at least {1000 * bounds.lift_m:g} mm expected"
        )
    distance = float(np.linalg.norm(main.final_m - goal))
    if not distance <= bounds.goal_m:
        problems.append(
            f"{main.name} ended {1000 * distance:.1f} mm from its goal, at most {1000 * bounds.goal_m:g} mm"
        )
    if main.rest_m > bounds.rest_m:
        problems.append(f"{main.name} still moves at the end ({1000 * main.rest_m:.1f} mm in {REST_S:g} s)")
    if main.lift_m >= bounds.lift_m:
        problems += _agreement_problems(bag, main, bounds, figures)
    return CheckResult(NAME, tuple(problems), figures)


def grasping_hand(bag: Bag, motion: ObjectMotion, bounds: GraspBounds) -> Agreement | None:
    """The hand whose pads press most while the object is in the air; None where none touches it."""
    model = attached_model(bag)
    stamps = motion.samples.stamp_ns
    best: Agreement | None = None
    wrenches: Mapping[str, str] = bag.robot_topics("wrench", WRENCH_STAMPED)
    for name, topic in wrenches.items():
        if name not in model.wrenches:
            raise EpisodeError(bag.path, f"robot.yaml has no wrench sensor {name!r} for topic {topic}")
        contact = contact_force_n(bag, model, model.wrenches[name], stamps)
        if contact is None or bag.streams[topic].count == 0:
            continue
        vertical, height = vertical_force_and_height(bag, model, name, stamps)
        found = hand_agreement(name, stamps, motion.lifted, contact, vertical, height, bounds)
        if found is not None and (best is None or found.median_contact_n > best.median_contact_n):
            best = found
    return best


def _agreement_problems(
    bag: Bag, main: ObjectMotion, bounds: GraspBounds, figures: dict[str, Any]
) -> list[str]:
    hand = grasping_hand(bag, main, bounds)
    if hand is None:
        return [f"no hand with pads and a wrist sensor touches {main.name} while it is lifted"]
    figures["hand"] = {
        "wrench": hand.wrench,
        "contact_threshold_n": bounds.contact_n,
        "contact_while_lifted": hand.contact_while_lifted,
        "loaded_while_lifted": hand.loaded_while_lifted,
        "loaded_without_contact": hand.loaded_without_contact,
        "correlation": hand.correlation,
        "median_contact_n": hand.median_contact_n,
        "median_load_n": hand.median_load_n,
        "contact_to_lift_s": hand.onset_lag_s,
        "lift_to_release_s": hand.release_lag_s,
    }
    problems = []
    for value, bound, what in (
        (
            hand.contact_while_lifted,
            bounds.contact_while_lifted,
            "pads touch in {:.0f} % of the time it is lifted",
        ),
        (hand.loaded_while_lifted, bounds.loaded_while_lifted, "wrist carries it in {:.0f} % of that time"),
    ):
        if not value >= bound:
            problems.append(f"{hand.wrench}: {what.format(100 * value)}, at least {100 * bound:g} % expected")
    if hand.loaded_without_contact > bounds.loaded_without_contact:
        problems.append(
            f"{hand.wrench}: wrist is loaded in {100 * hand.loaded_without_contact:.0f} % of the time "
            "nothing is touched"
        )
    if hand.onset_lag_s < 0.0 or hand.release_lag_s < 0.0:
        problems.append(f"{hand.wrench}: touched only after the lift, or let go before it was set down")
    return problems
