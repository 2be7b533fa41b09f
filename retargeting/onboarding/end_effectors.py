"""What an arm ends in: nothing, jaws with their open and closed positions, or fingers with their tips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retargeting.onboarding.arm_points import axis_point_near, find_elbow, shoulder_point, wrist_point
from retargeting.onboarding.evidence import Finding
from retargeting.onboarding.finger_pads import FingerPad, find_pad
from retargeting.onboarding.limbs import Limb
from retargeting.onboarding.name_signs import count
from retargeting.onboarding.skeleton import Posture, Skeleton, resting, rounded_inside, travel

Array = NDArray[np.float64]
HandKind = Literal["none", "gripper", "fingers"]

# Parts that end nearer to the wrist than this share of the longest are levers, not fingers.
_SHORTEST_FINGER_SHARE = 0.4
# Of a finger's length: what a joint brings its tip nearer to the wrist when it curls the finger.
_CURL_SHARE = 0.06
# A joint of one finger this much nearer to the wrist than the other fingers begin is inside the palm.
_KNUCKLE_SHARE = 0.75
# A hand closed to the stop squeezes its own fingers; this share of the way is a fist.
_FIST_SHARE = 0.9
_SAMPLES = 9
# A hand points along its last joint's axis when that is this near to where its tip is (cosine).
_ALONG_LAST_AXIS = 0.82
# The last joint rolls the hand when its axis is this much along the forearm (cosine).
_ROLLS = 0.9
# A sideways palm is read off this part of the closing.
_CURLING_SHARE = 0.3

# Nameless fingers: these bend alike when their axes are this near to parallel (cosine), a thumb does not.
_FEWEST_WITH_A_THUMB, _BEND_ALIKE, _BENDS_ACROSS = 4, 0.9, 0.8

_FINGER_WORDS = {
    "thumb": ("thumb", "thmb", "_th_"),
    "index": ("index", "idx", "_ff_"),
    "middle": ("middle", "_mid", "_mf_"),
    "ring": ("ring", "rng", "_rf_"),
    "little": ("little", "pinky", "pnky", "_lf_"),
}


@dataclass(frozen=True)
class FingerTip:
    """A finger's pad and the last joint before it.

    `base`: the link whose joint is the knuckle; "" where that is the first joint that moves this finger only.
    """

    name: str
    pad: FingerPad
    joint: str
    base: str = ""


@dataclass(frozen=True)
class EndEffector:
    """`joints`: (closed, open) of every hand joint with a command of its own (rad, m).

    `pointing`, `back` ``(3,)``: along the fingers and out of the back of the hand, in the root at rest;
    `back` is None where nothing tells it; `jaw_line`: across the jaws. `thumb`: from wrist to thumb.
    """

    kind: HandKind
    joints: dict[str, tuple[float, float]]
    tips: tuple[FingerTip, ...]
    pointing: Array
    back: Array | None
    jaw_line: Array | None
    thumb: Array | None
    findings: tuple[Finding, ...]


def _unit(vector: Array) -> Array:
    unit: Array = vector / np.linalg.norm(vector)
    return unit


def _across(vector: Array, along: Array) -> Array:
    """The part of a vector that is perpendicular to the unit vector `along`."""
    across: Array = vector - along * float(along @ vector)
    return across


def _tip(skeleton: Skeleton, joint: str) -> tuple[str, Array]:
    """The link at the end of the body on `joint` and the tip ``(3,)`` in the root, at rest."""
    rest = skeleton.rest
    origin = rest.origin(joint)
    links = skeleton.carried_links[joint]
    named = [link for link in links if "tip" in link.lower()]
    link = max(named or links, key=lambda name: float(np.linalg.norm(rest.link_origin(name) - origin)))
    tip = rest.link_origin(link)
    if np.linalg.norm(tip - origin) < 0.005:
        points = skeleton.body_points(joint, rest)
        tip = points[int(np.argmax(np.linalg.norm(points - origin, axis=1)))]
    if np.linalg.norm(tip - origin) < 0.005:
        # Nothing but a mesh: the last part is about as long as the one before it.
        tip = origin + 0.8 * (origin - rest.origin(skeleton.carrier[joint]))
    return link, tip


def _turns_freely(skeleton: Skeleton, joint: str) -> bool:
    entry = skeleton.urdf.joints[joint]
    return entry.mimic is None and entry.kind == "continuous"


def _ends(skeleton: Skeleton, arm: Limb) -> dict[str, tuple[str, Array]]:
    """The outermost joint of every finger or jaw, with its tip (`_tip`)."""
    leaves = [name for name in arm.hand if not skeleton.children[name]]
    depth = {name: len([n for n in skeleton.path(name) if n in arm.hand]) for name in leaves}
    # A motor's own shaft beside fingers of several joints is no finger.
    leaves = [name for name in leaves if depth[name] > 1 or max(depth.values()) < 3]
    # What turns round and round beside jaws drives them.
    bounded = [name for name in leaves if not _turns_freely(skeleton, name)]
    leaves = bounded if len(bounded) > 1 else leaves
    tips = {name: _tip(skeleton, name) for name in leaves}
    wrist = wrist_point(skeleton.rest, arm)
    far = {name: float(np.linalg.norm(tip - wrist)) for name, (_, tip) in tips.items()}
    longest = max(far.values(), default=0.0)
    return {name: tips[name] for name in leaves if far[name] >= _SHORTEST_FINGER_SHARE * longest}


def _finger_names(skeleton: Skeleton, arm: Limb, ends: Mapping[str, tuple[str, Array]]) -> dict[str, str]:
    """A finger's name per outermost joint; those without one are named by their distance from the thumb."""
    names: dict[str, str] = {}
    for joint in ends:
        chain = [name for name in skeleton.path(joint) if name in arm.hand]
        words = " ".join([*chain, *(skeleton.urdf.joints[name].child for name in chain)]).lower()
        for finger, signs in _FINGER_WORDS.items():
            if finger not in names.values() and any(sign in words for sign in signs):
                names[joint] = finger
                break
    if not names and (odd := _thumb_by_axis(skeleton, arm, list(ends))):
        names[odd] = "thumb"
    free = [finger for finger in _FINGER_WORDS if finger not in names.values() and finger != "thumb"]
    thumb = next((ends[joint][1] for joint, finger in names.items() if finger == "thumb"), None)
    silent = [joint for joint in ends if joint not in names]
    if thumb is not None:
        silent.sort(key=lambda joint: float(np.linalg.norm(ends[joint][1] - thumb)))
    names |= zip(silent, free, strict=False)
    return names


def _thumb_by_axis(skeleton: Skeleton, arm: Limb, ends: Sequence[str]) -> str:
    """Of fingers without names, the one that bends across the others' way, "" where none clearly does.

    Its last joint tells it, or the one that it begins with.
    """
    if len(ends) < _FEWEST_WITH_A_THUMB:
        return ""
    first = {joint: next(name for name in skeleton.path(joint) if name in arm.hand) for joint in ends}
    for axes in (
        {joint: skeleton.rest.axis(joint) for joint in ends},
        {joint: skeleton.rest.axis(first[joint]) for joint in ends},
    ):
        alike = {
            joint: {other: abs(float(axes[joint] @ axes[other])) for other in ends if other != joint}
            for joint in ends
        }
        odd = min(ends, key=lambda joint: sum(alike[joint].values()))
        together = [
            alike[joint][other] for joint in ends for other in alike[joint] if odd not in (joint, other)
        ]
        if float(np.mean(together)) > _BEND_ALIKE and float(np.mean([*alike[odd].values()])) < _BENDS_ACROSS:
            return odd
    return ""


def _moved_tip(posture: Posture, link: str, local: Array) -> Array:
    moved: Array = posture.link_origin(link) + posture.rotation(link) @ local
    return moved


class _Hand:
    """A hand at work: where its tips go when its joints move, the arm at rest."""

    def __init__(self, skeleton: Skeleton, arm: Limb) -> None:
        self.skeleton, self.arm = skeleton, arm
        self.ends = _ends(skeleton, arm)
        self.wrist = wrist_point(skeleton.rest, arm)
        self.pointing = np.zeros(3)
        self.own = tuple(name for name in skeleton.own(arm.hand) if self.moves(name))
        self.pads: dict[str, FingerPad] = {}
        self.local = {
            joint: (link, skeleton.rest.in_link(link, tip)) for joint, (link, tip) in self.ends.items()
        }

    def feel(self) -> None:
        """From now on tips are the centres of the fingers' (or jaws') pads."""
        self.pads = {joint: find_pad(self.skeleton, joint) for joint in self.ends}
        self.local = {joint: (pad.link, pad.position) for joint, pad in self.pads.items()}
        self.ends = {joint: (self.pads[joint].link, tip) for joint, tip in self.tips({}).items()}

    def tips(self, positions: Mapping[str, float]) -> dict[str, Array]:
        posture = self.skeleton.posture(positions)
        return {joint: _moved_tip(posture, *place) for joint, place in self.local.items()}

    def samples(self, joint: str) -> list[float]:
        lower, upper = travel(self.skeleton.urdf.joints[joint])
        # A single jaw swings past the middle of the hand: only the ends of its travel count.
        count = _SAMPLES if len(self.ends) > 1 else 2
        return [float(value) for value in np.linspace(lower, upper, count)]

    def leader(self, joint: str) -> str:
        """The joint with a command of its own that a joint follows."""
        entry = self.skeleton.urdf.joints[joint]
        while entry.mimic is not None:
            entry = self.skeleton.urdf.joints[entry.mimic.joint]
        return entry.name

    def moves(self, own: str) -> list[str]:
        """The outermost joints whose tips a joint moves."""
        return [
            joint
            for joint in self.ends
            if any(self.leader(name) == own for name in self.skeleton.path(joint) if name in self.arm.hand)
        ]

    def carried(self, joint: str) -> list[str]:
        """The outermost joints beyond a joint."""
        beyond = self.skeleton.subtree(joint)
        return [end for end in self.ends if end in beyond]

    def spread(self, positions: Mapping[str, float]) -> float:
        """How far the jaws are apart (m): from each other, or a single one from the line of the hand."""
        tips = list(self.tips(positions).values())
        if len(tips) >= 2:
            pairs = [np.linalg.norm(a - b) for i, a in enumerate(tips) for b in tips[:i]]
            return float(np.mean(pairs))
        return float(np.linalg.norm(_across(tips[0] - self.wrist, self.pointing)))


def _jaws(hand: _Hand) -> tuple[dict[str, tuple[float, float]], bool]:
    """(closed, open) of jaws: where they are nearest to and farthest from each other."""
    joints, clear = {}, True
    for own in hand.own:
        spreads = {value: hand.spread({own: value}) for value in hand.samples(own)}
        closed, opened = min(spreads, key=lambda v: spreads[v]), max(spreads, key=lambda v: spreads[v])
        clear &= spreads[opened] - spreads[closed] > 0.005
        entry = hand.skeleton.urdf.joints[own]
        joints[own] = (rounded_inside(entry, closed), rounded_inside(entry, opened))
    return joints, clear


def _curl(hand: _Hand, own: str) -> tuple[float, float] | None:
    """(closed, open) of a joint that curls fingers; None of one that spreads or turns them."""
    entry = hand.skeleton.urdf.joints[own]
    moved = hand.moves(own)
    if not moved:
        return None
    base = hand.skeleton.rest.origin(own)
    length = float(np.mean([np.linalg.norm(hand.ends[joint][1] - base) for joint in moved]))

    def far(value: float) -> float:
        tips = hand.tips({own: value})
        return float(np.mean([np.linalg.norm(tips[joint] - hand.wrist) for joint in moved]))

    lower, upper = travel(entry)
    rest = resting(entry)
    distances = {value: far(value) for value in (lower, rest, upper)}
    drops = sorted(distances[rest] - distances[end] for end in (lower, upper))
    if lower < rest < upper and drops[0] > 0.5 * drops[1]:
        # Either way brings the tip as near: it swings sideways.
        return None
    closed = min((lower, upper), key=lambda value: distances[value])
    opened = rest
    if max(distances.values()) - distances[rest] > _CURL_SHARE * length:
        opened = max(distances, key=lambda value: distances[value])
    if distances[opened] - distances[closed] < _CURL_SHARE * length:
        return None
    return opened + _FIST_SHARE * (closed - opened), opened


def _fingers(hand: _Hand, names: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """(closed, open) of every own joint of a hand with fingers."""
    thumbs = [joint for joint, finger in names.items() if finger == "thumb"]
    joints: dict[str, tuple[float, float]] = {}
    turning: list[str] = []
    for own in hand.own:
        if thumbs and set(hand.moves(own)) == set(thumbs):
            turning.append(own)
            continue
        curl = _curl(hand, own)
        if curl is not None:
            joints[own] = curl
        else:
            value = resting(hand.skeleton.urdf.joints[own])
            joints[own] = (value, value)
    half = {own: 0.5 * (closed + opened) for own, (closed, opened) in joints.items()}
    for own in turning:
        # Each of the thumb's joints brings it to where it meets the other fingers.
        def gap(value: float, own: str = own) -> float:
            tips = hand.tips(half | {own: value})
            others = [tip for joint, tip in tips.items() if joint not in thumbs]
            return float(np.linalg.norm(tips[thumbs[0]] - np.mean(others, axis=0))) if others else 0.0

        closed = min(hand.samples(own), key=gap)
        joints[own] = (closed, resting(hand.skeleton.urdf.joints[own]))
        half[own] = closed
    entries = hand.skeleton.urdf.joints
    return {
        own: (rounded_inside(entries[own], joints[own][0]), rounded_inside(entries[own], joints[own][1]))
        for own in hand.own
    }


def _pointing(skeleton: Skeleton, arm: Limb, wrist: Array, ahead: Array) -> tuple[Array, str, bool]:
    """Where the hand points: to `ahead`, along the last joint's axis where it rolls the hand."""
    axis = skeleton.rest.axis(arm.last)
    offset = ahead - wrist
    distance = float(np.linalg.norm(offset))
    elbow = find_elbow(skeleton, arm).elbow
    base = elbow or arm.first
    forearm = wrist - axis_point_near(skeleton.rest, base, shoulder_point(skeleton.rest, arm, elbow))
    reach = float(np.linalg.norm(forearm))
    if elbow == arm.last and reach > 0.01:
        return forearm / reach, "along the forearm: no joint follows the elbow", False
    if distance < 0.01:
        if reach < 0.01:
            return axis, "along the last joint's axis, for want of anything else", False
        return forearm / reach, "along the forearm: nothing lies beyond the wrist", False
    along = float(axis @ offset) / distance
    rolls = reach > 0.01 and abs(float(axis @ forearm)) > _ROLLS * reach
    if skeleton.urdf.joints[arm.last].kind != "prismatic" and (abs(along) > _ALONG_LAST_AXIS or rolls):
        return (axis if along > 0.0 else -axis), "along the last joint's axis, to its end", abs(along) > 0.5
    direction: Array = offset / distance
    if abs(along) < 0.5:
        # The hand lies in the plane that its last joint swings it in.
        direction = _unit(_across(direction, axis))
    return direction, "from the wrist to its end", True


def _body_ahead(skeleton: Skeleton, arm: Limb) -> Array:
    """The middle ``(3,)`` of what is fixed to the last joint; the frames beyond it alone where it has any."""
    rest = skeleton.rest
    links = skeleton.carried_links[arm.last]
    named = [link for link in links[1:] if count("finger", (link,)) or "tool" in link or "_ee" in link]
    if named:
        return np.asarray(np.mean([rest.link_origin(link) for link in named], axis=0))
    middle: Array = skeleton.body_points(arm.last, rest).mean(axis=0)
    return middle


def find_end_effector(skeleton: Skeleton, arm: Limb) -> EndEffector:
    """The end of one arm."""
    rest = skeleton.rest
    wrist = wrist_point(rest, arm)
    if not arm.hand:
        pointing, why, sure = _pointing(skeleton, arm, wrist, _body_ahead(skeleton, arm))
        finding = Finding(f"no hand after {arm.last}; it points {why}", "no joint beyond it moves", sure)
        return EndEffector("none", {}, (), pointing, None, None, None, (finding,))
    hand = _Hand(skeleton, arm)
    names = _finger_names(skeleton, arm, hand.ends)
    thumbs = [joint for joint, finger in names.items() if finger == "thumb"]
    many = len(hand.ends) >= 3 and len(hand.own) >= 3
    if thumbs or many:
        hand.feel()
        return _finger_hand(hand, names, thumbs)
    hand.feel()
    points = [tip for _, tip in hand.ends.values()]
    ahead = np.mean(points, axis=0) if len(points) > 1 else _body_ahead_of_jaw(hand, points[0])
    pointing, why, sure = _pointing(skeleton, arm, wrist, ahead)
    hand.pointing = pointing
    joints, clear = _jaws(hand)
    opened = hand.tips({own: ends[1] for own, ends in joints.items()})
    shut = hand.tips({own: ends[0] for own, ends in joints.items()})
    lines = [_across(opened[joint] - shut[joint], pointing) for joint in hand.ends]
    line = max(lines, key=lambda vector: float(np.linalg.norm(vector)))
    jaw_line = _unit(line) if np.linalg.norm(line) > 1e-3 else None
    listed = ", ".join(f"{own} {ends[0]:g} … {ends[1]:g}" for own, ends in joints.items())
    findings = (
        Finding(f"gripper, closed … open: {listed}", f"{len(hand.ends)} jaw(s) nearest and farthest", clear),
        Finding(f"the hand points {why}", "the jaws and the last joint's axis", sure),
    )
    return EndEffector("gripper", joints, (), pointing, None, jaw_line, None, findings)


def _body_ahead_of_jaw(hand: _Hand, tip: Array) -> Array:
    """Ahead of a hand with one moving jaw: between the jaw and the body it closes on."""
    body = hand.skeleton.body_points(hand.arm.last, hand.skeleton.rest).mean(axis=0)
    middle: Array = 0.5 * (tip + body)
    return middle


def _called_thumb(hand: _Hand, joint: str) -> bool:
    chain = [name for name in hand.skeleton.path(joint) if name in hand.arm.hand]
    words = " ".join([*chain, *(hand.skeleton.urdf.joints[name].child for name in chain)]).lower()
    return any(sign in words for sign in _FINGER_WORDS["thumb"])


def _knuckles(hand: _Hand, fingers: Sequence[str]) -> dict[str, str]:
    """The links where those fingers begin that bend inside the palm too, before their knuckle."""
    chains = {
        finger: [
            name
            for name in hand.skeleton.path(finger)
            if name in hand.arm.hand and hand.carried(name) == [finger]
        ]
        for finger in fingers
    }
    far = {
        name: float(np.linalg.norm(hand.skeleton.rest.origin(name) - hand.wrist))
        for chain in chains.values()
        for name in chain
    }
    begins = [far[chain[0]] for chain in chains.values() if chain]
    if len(begins) < 3:
        return {}
    usual = float(np.median(begins))
    found = {}
    for finger, chain in chains.items():
        outside = [name for name in chain if far[name] > _KNUCKLE_SHARE * usual]
        if outside and outside[0] != chain[0]:
            found[finger] = hand.skeleton.urdf.joints[outside[0]].child
    return found


def _finger_hand(hand: _Hand, names: Mapping[str, str], thumbs: Sequence[str]) -> EndEffector:
    joints = _fingers(hand, names)
    bases = _knuckles(hand, [joint for joint in hand.ends if joint not in thumbs])
    tips = tuple(
        FingerTip(names[joint], pad, joint, bases.get(joint, ""))
        for joint, pad in hand.pads.items()
        if joint in names
    )
    opened = hand.tips({own: ends[1] for own, ends in joints.items()})
    curling = hand.tips({own: ends[1] + _CURLING_SHARE * (ends[0] - ends[1]) for own, ends in joints.items()})
    others = [joint for joint in hand.ends if joint not in thumbs] or list(hand.ends)
    ahead = np.mean([opened[joint] for joint in others], axis=0)
    pointing, _, _ = _pointing(hand.skeleton, hand.arm, hand.wrist, ahead)
    palm = _across(np.mean([curling[joint] - opened[joint] for joint in others], axis=0), pointing)
    back = -_unit(palm) if np.linalg.norm(palm) > 2e-3 else None
    thumb = hand.ends[thumbs[0]][1] - hand.wrist if thumbs else None
    many = f"{len(hand.ends)} fingers ({', '.join(names.get(joint, joint) for joint in hand.ends)})"
    called = bool(thumbs) and _called_thumb(hand, thumbs[0])
    why = f"{len(hand.own)} joint(s) of their own; " + (
        "none of them is called thumb"
        if not thumbs
        else "one of them is called thumb"
        if called
        else f"the thumb is the one that bends across the others: {thumbs[0]}"
    )
    findings = [Finding(many, why, bool(thumbs) and len(names) == len(hand.ends))]
    findings.append(
        Finding(
            "the palm is where the fingers curl to" if back is not None else "no palm is known",
            "tips move when the fingers close" if back is not None else "closing moves no tip sideways",
            back is not None,
        )
    )
    guessed = [tip for tip in tips if not tip.pad.measured]
    if guessed:
        what = f"where {len(guessed)} of {len(tips)} fingers end is guessed"
        findings.append(Finding(what, f"e.g. the {guessed[0].name}: {guessed[0].pad.why}", sure=False))
    return EndEffector("fingers", joints, tips, pointing, back, None, thumb, tuple(findings))


def hand_side(effector: EndEffector) -> str:
    """`left` or `right` by where the thumb is when the palm faces down, "" where that tells nothing."""
    if effector.back is None or effector.thumb is None:
        return ""
    left_hand_axis = np.cross(effector.back, effector.pointing)
    along = float(left_hand_axis @ effector.thumb) / max(float(np.linalg.norm(effector.thumb)), 1e-9)
    return "" if abs(along) < 0.1 else "right" if along > 0.0 else "left"
