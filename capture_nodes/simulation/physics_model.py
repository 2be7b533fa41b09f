"""The MuJoCo model of a robot and its scene, built from `RobotModel` and `SceneLayout`.

The world frame is the robot's root link at rest; gravity points along -z. Joints are driven by
position actuators with gravity compensation, limited to the URDF's effort, as a drive with a
feed-forward would be. Nothing is welded to a gripper: objects are held by contact and friction.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from capture_nodes.errors import CaptureError
from capture_nodes.simulation.scene import SceneLayout
from capture_nodes.simulation.shapes import Primitive, collision_primitives, visual_primitives
from retargeting.frames import quaternion_multiply, rotation_matrix_from_quaternion
from retargeting.robot_model import RobotModel
from retargeting.urdf import Joint, Link

Array = NDArray[np.float64]

PHYSICS_STEP_S = 0.001

# Contact classes: bit i collides with the classes whose mask has bit i.
_ROBOT, _OBJECT, _TABLE, _FLOOR = 1, 2, 4, 8
_HAND = {"left": 16, "right": 32}
_VISUAL_GROUP, _COLLISION_GROUP = 2, 3

# Bandwidth of the joint servos (rad/s) and their damping ratio. With command feed-forward the
# tracking error is that of the load and of the coupling between joints only.
_SERVO_BANDWIDTH_RAD_S = 90.0
_SERVO_DAMPING_RATIO = 1.0
# Reflected inertia of a drive per unit of its effort (kg m² per N m, kg per N).
_ARMATURE_PER_EFFORT = 5e-4
_ARMATURE_PER_FORCE = 2e-3
_EFFORT_WITHOUT_LIMIT = 1000.0
# rad or m, either way, of a joint whose limits leave it none.
_LOCKED_PLAY = 1e-6
_SMALLEST_MASS_KG = 1e-3
_SMALLEST_INERTIA_KG_M2 = 1e-6

_CONTACT_SOLREF = (0.004, 1.0)
_CONTACT_SOLIMP = (0.95, 0.99, 0.001, 0.5, 2.0)
_ROBOT_FRICTION = 1.0
_TORSIONAL_FRICTION_M = 0.02
_ROLLING_FRICTION_M = 0.0005

_DEFAULT_RGBA = (0.75, 0.76, 0.78, 1.0)


@dataclass(frozen=True)
class DrivenJoint:
    """Addresses of one driven joint in `MjModel` / `MjData`."""

    name: str
    qpos: int
    dof: int
    actuator: int
    stiffness: float
    damping: float
    effort: float


@dataclass(frozen=True)
class PhysicsModel:
    """A compiled model and where things are in it.

    `joints` are `RobotModel.movable_joint_names` in order; `mimics` maps a follower's qpos address
    to (leader's qpos address, multiplier, offset); `object_qpos` maps object names to the address
    of their pose ``[x y z qw qx qy qz]``.
    """

    robot: RobotModel
    layout: SceneLayout
    mj_model: Any
    joints: tuple[DrivenJoint, ...]
    mimics: dict[int, tuple[int, float, float]]
    object_qpos: dict[str, int]
    object_dof: dict[str, int]

    def set_joint_positions(self, data: Any, positions: dict[str, float]) -> None:
        """Write joint positions (rad, m) by name, followers included; unknown names raise `KeyError`."""
        addresses = {joint.name: joint.qpos for joint in self.joints}
        for name, value in positions.items():
            data.qpos[addresses[name]] = value
        for address, (leader, multiplier, offset) in self.mimics.items():
            data.qpos[address] = multiplier * data.qpos[leader] + offset

    def set_object_pose(self, data: Any, name: str, pose: Array) -> None:
        """Put an object at a pose ``(7,)`` in the root link's frame."""
        address = self.object_qpos[name]
        data.qpos[address : address + 3] = pose[:3]
        data.qpos[address + 3 : address + 7] = _wxyz(pose[3:])

    def object_pose(self, data: Any, name: str) -> Array:
        """Pose ``(7,)`` of an object in the root link's frame."""
        address = self.object_qpos[name]
        x, y, z, qw, qx, qy, qz = data.qpos[address : address + 7]
        return np.array([x, y, z, qx, qy, qz, qw])


def _wxyz(q: Array) -> Array:
    return np.array([q[3], q[0], q[1], q[2]])


def _is_movable(joint: Joint) -> bool:
    return joint.kind != "fixed"


class _Builder:
    def __init__(self, robot: RobotModel, layout: SceneLayout) -> None:
        self.robot = robot
        self.urdf = robot.urdf
        self.layout = layout
        self.spec = mujoco.MjSpec()
        self.bodies: dict[str, Any] = {}
        self.neutral_poses = robot.link_poses(robot.neutral_positions())
        self.hands = {
            side: self._links_moved_by(gripper.joints) for side, gripper in robot.description.grippers.items()
        }

    def build(self) -> PhysicsModel:
        self._options()
        self._robot()
        self._mimics()
        self._scene()
        self._sensors()
        model = self.spec.compile()
        self._exclude_resting_contacts(model)
        model = self.spec.compile()
        return self._finish(model)

    def _options(self) -> None:
        spec, option = self.spec, self.spec.option
        spec.modelname = self.robot.name
        spec.compiler.degree = False
        spec.compiler.balanceinertia = True
        spec.compiler.boundmass = 0.0
        option.timestep = PHYSICS_STEP_S
        option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        option.impratio = 20.0
        # Friction that creeps would let a held object slide out within a minute.
        option.noslip_iterations = 2
        option.iterations = 30
        spec.visual.quality.shadowsize = 0
        spec.visual.headlight.ambient = [0.32, 0.32, 0.34]
        spec.visual.headlight.diffuse = [0.30, 0.30, 0.30]
        spec.visual.headlight.specular = [0.05, 0.05, 0.05]
        spec.visual.map.znear = 0.01
        spec.visual.map.zfar = 12.0
        spec.stat.extent = 1.0
        spec.stat.center = [0.3, 0.0, 0.0]

    # -- robot ---------------------------------------------------------------------------------

    def _robot(self) -> None:
        root = self.spec.worldbody.add_body(name=self.urdf.root)
        self._fill(root, self.urdf.links[self.urdf.root], moves=False)
        self.bodies[self.urdf.root] = root
        for joint in self.urdf.joints_root_first():
            body = self.bodies[joint.parent].add_body(
                name=joint.child, pos=joint.pose[:3], quat=_wxyz(joint.pose[3:])
            )
            self.bodies[joint.child] = body
            self._fill(body, self.urdf.links[joint.child], _is_movable(joint))
            if _is_movable(joint):
                self._joint(body, joint)

    def _fill(self, body: Any, link: Link, moves: bool) -> None:
        body.gravcomp = 1.0
        body.explicitinertial = True
        inertial = link.inertial
        if inertial is None or inertial.mass_kg <= 0.0:
            small = _SMALLEST_MASS_KG if moves else 0.0
            body.mass, body.ipos = small, [0.0, 0.0, 0.0]
            body.inertia = [_SMALLEST_INERTIA_KG_M2 if moves else 0.0] * 3
        else:
            rotation = rotation_matrix_from_quaternion(inertial.pose[3:])
            tensor = rotation @ inertial.inertia_kg_m2 @ rotation.T
            tensor = tensor + _SMALLEST_INERTIA_KG_M2 * np.eye(3)
            body.mass, body.ipos = inertial.mass_kg, inertial.pose[:3]
            body.fullinertia = [tensor[i] for i in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
        for primitive in visual_primitives(self.urdf, link):
            geom = _add_geom(body, primitive)
            geom.group = _VISUAL_GROUP
            geom.contype, geom.conaffinity = 0, 0
        for primitive in collision_primitives(self.urdf, link):
            geom = _add_geom(body, primitive)
            geom.group = _COLLISION_GROUP
            own = self._touched_by_own(link.name)
            geom.contype, geom.conaffinity = _ROBOT | own, _OBJECT | _TABLE | own
            _contact(geom, _ROBOT_FRICTION)

    def _links_moved_by(self, joints: Collection[str]) -> set[str]:
        links: set[str] = set()
        for joint in self.urdf.joints_root_first():
            follows = joint.mimic is not None and joint.mimic.joint in joints
            if joint.name in joints or follows or (joint.kind == "fixed" and joint.parent in links):
                links.add(joint.child)
        return links

    def _touched_by_own(self, link: str) -> int:
        """Contact bits of a link towards other links: those of its hand, or of the whole robot."""
        if self.robot.description.simulation.self_contact:
            return _ROBOT
        return next((_HAND[side] for side, links in self.hands.items() if link in links), 0)

    def _joint(self, body: Any, joint: Joint) -> None:
        slides = joint.kind == "prismatic"
        effort = joint.effort if math.isfinite(joint.effort) else _EFFORT_WITHOUT_LIMIT
        record = body.add_joint(
            name=joint.name,
            type=mujoco.mjtJoint.mjJNT_SLIDE if slides else mujoco.mjtJoint.mjJNT_HINGE,
            axis=joint.axis,
            damping=joint.damping,
            frictionloss=joint.friction,
            armature=effort * (_ARMATURE_PER_FORCE if slides else _ARMATURE_PER_EFFORT),
        )
        if math.isfinite(joint.lower) and math.isfinite(joint.upper):
            record.limited = mujoco.mjtLimited.mjLIMITED_TRUE
            # MuJoCo refuses an empty range: a joint that cannot move gets this play.
            play = _LOCKED_PLAY if joint.lower == joint.upper else 0.0
            record.range = [joint.lower - play, joint.upper + play]
            record.solref_limit = _CONTACT_SOLREF
        record.actgravcomp = True
        record.actfrclimited = mujoco.mjtLimited.mjLIMITED_TRUE
        record.actfrcrange = [-effort, effort]
        if joint.mimic is None:
            self.spec.add_actuator(
                name=joint.name,
                target=joint.name,
                trntype=mujoco.mjtTrn.mjTRN_JOINT,
                gaintype=mujoco.mjtGain.mjGAIN_FIXED,
                biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            )

    def _mimics(self) -> None:
        for joint in self.urdf.joints.values():
            if joint.mimic is None or not _is_movable(joint):
                continue
            equality = self.spec.add_equality(
                type=mujoco.mjtEq.mjEQ_JOINT, name1=joint.name, name2=joint.mimic.joint
            )
            data = np.zeros(12)
            data[0], data[1] = joint.mimic.offset, joint.mimic.multiplier
            equality.data = data
            equality.solref = (0.004, 1.0)
            equality.solimp = (0.98, 0.999, 0.001, 0.5, 2.0)

    def _exclude_resting_contacts(self, model: Any) -> None:
        """Links up to two joints apart, or touching in the neutral posture, never collide."""
        data = mujoco.MjData(model)
        physics = self._finish(model)
        physics.set_joint_positions(data, self.robot.neutral_positions())
        mujoco.mj_forward(model, data)
        pairs = self._near_pairs()
        for i in range(data.ncon):
            bodies = [int(model.geom_bodyid[g]) for g in data.contact[i].geom]
            names = sorted(model.body(b).name for b in bodies)
            if all(name in self.urdf.links for name in names):
                pairs.add((names[0], names[1]))
        for first, second in sorted(pairs):
            self.spec.add_exclude(bodyname1=first, bodyname2=second)

    def _near_pairs(self) -> set[tuple[str, str]]:
        """Pairs of links with at most two movable joints between them along the tree."""
        neighbours: dict[str, list[tuple[str, int]]] = {name: [] for name in self.urdf.links}
        for joint in self.urdf.joints.values():
            cost = 1 if _is_movable(joint) else 0
            neighbours[joint.parent].append((joint.child, cost))
            neighbours[joint.child].append((joint.parent, cost))
        inside = set().union(*self.hands.values())
        pairs = set()
        for start in self.urdf.links:
            cheapest = {start: 0}
            pending = [start]
            while pending:
                link = pending.pop()
                for other, cost in neighbours[link]:
                    total = cheapest[link] + cost
                    if total <= 2 and total < cheapest.get(other, 3):
                        cheapest[other] = total
                        pending.append(other)
            for other, total in cheapest.items():
                # Two fingers of one hand are two joints apart and do touch.
                opposed = total == 2 and start in inside and other in inside
                if other != start and not opposed:
                    pairs.add((min(start, other), max(start, other)))
        return pairs

    # -- scene ---------------------------------------------------------------------------------

    def _scene(self) -> None:
        world, layout, scene = self.spec.worldbody, self.layout, self.layout.scene
        self._surroundings(world)
        depth, width, thickness = layout.table_size_m
        x, y = layout.workspace_centre_m
        top, floor = layout.table_top_z_m, layout.floor_z_m
        table = world.add_body(name="table")
        board = table.add_geom(
            name="table_board",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[x, y, top - 0.5 * thickness],
            size=[0.5 * depth, 0.5 * width, 0.5 * thickness],
            rgba=scene.table_rgba,
        )
        board.contype, board.conaffinity = _TABLE, _TABLE | _OBJECT | _ROBOT
        _contact(board, scene.table_friction)
        height = top - thickness - floor
        for sx in (-1, 1):
            for sy in (-1, 1):
                table.add_geom(
                    type=mujoco.mjtGeom.mjGEOM_BOX,
                    pos=[x + sx * (0.5 * depth - 0.04), y + sy * (0.5 * width - 0.04), floor + 0.5 * height],
                    size=[0.02, 0.02, 0.5 * height],
                    rgba=[0.32, 0.33, 0.36, 1.0],
                    contype=0,
                    conaffinity=0,
                )
        goal = layout.goal_pose
        table.add_geom(
            name="goal",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            pos=[goal[0], goal[1], top],
            size=[scene.goal_radius_m, 0.001, 0.0],
            rgba=scene.goal_rgba,
            contype=0,
            conaffinity=0,
        )
        for entry in scene.objects:
            pose = layout.object_poses[entry.name]
            body = world.add_body(name=entry.name, pos=pose[:3], quat=_wxyz(pose[3:]))
            body.add_freejoint(name=entry.name)
            box = entry.kind == "box"
            sizes = entry.size_m
            size = [0.5 * value for value in sizes] if box else [sizes[0], 0.5 * sizes[1], 0.0]
            geom = body.add_geom(
                name=entry.name,
                type=mujoco.mjtGeom.mjGEOM_BOX if box else mujoco.mjtGeom.mjGEOM_CYLINDER,
                size=size,
                mass=entry.mass_kg,
                rgba=entry.rgba,
            )
            geom.contype, geom.conaffinity = _OBJECT, _OBJECT | _ROBOT | _TABLE | _FLOOR
            _contact(geom, entry.friction)

    def _surroundings(self, world: Any) -> None:
        floor = self.layout.floor_z_m
        self.spec.add_texture(
            name="floor",
            type=mujoco.mjtTexture.mjTEXTURE_2D,
            builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
            rgb1=[0.46, 0.49, 0.52],
            rgb2=[0.40, 0.43, 0.46],
            width=128,
            height=128,
        )
        self.spec.add_texture(
            name="sky",
            type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
            builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
            rgb1=[0.86, 0.90, 0.94],
            rgb2=[0.55, 0.63, 0.72],
            width=64,
            height=384,
        )
        material = self.spec.add_material(name="floor", texrepeat=[2.0, 2.0], texuniform=True)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
        plane = world.add_geom(
            name="floor",
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            pos=[0.0, 0.0, floor],
            size=[4.0, 4.0, 0.1],
            material="floor",
        )
        plane.contype, plane.conaffinity = _FLOOR, _OBJECT
        world.add_light(
            pos=[0.8, 1.0, 2.2],
            dir=[-0.2, -0.4, -1.0],
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            diffuse=[0.55, 0.54, 0.50],
            specular=[0.15, 0.15, 0.15],
            castshadow=False,
        )

    # -- sensors -------------------------------------------------------------------------------

    def _sensors(self) -> None:
        for name, wrench in self.robot.description.wrenches.items():
            site = f"{name}_wrench"
            self.bodies[wrench.link].add_site(name=site, group=5)
            kinds = {"force": mujoco.mjtSensor.mjSENS_FORCE, "torque": mujoco.mjtSensor.mjSENS_TORQUE}
            for suffix, kind in kinds.items():
                self.spec.add_sensor(
                    name=f"{name}_{suffix}", type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=site
                )
        for name, camera in self.robot.description.cameras.items():
            # Ours look along x with z up; MuJoCo's along -z with y up.
            looking = np.array([0.5, -0.5, -0.5, 0.5])
            half_height = math.tan(0.5 * camera.horizontal_fov_rad) * camera.height / camera.width
            vertical = 2.0 * math.atan(half_height)
            self.bodies[camera.link].add_camera(
                name=name,
                pos=camera.pose[:3],
                quat=_wxyz(quaternion_multiply(camera.pose[3:], looking)),
                fovy=math.degrees(vertical),
            )

    def _finish(self, model: Any) -> PhysicsModel:
        """Servo gains from the joint-space inertia in the neutral posture, and all addresses."""
        data = mujoco.MjData(model)
        mimics = {}
        for joint in self.urdf.joints.values():
            if joint.mimic is not None and _is_movable(joint):
                leader = int(model.joint(joint.mimic.joint).qposadr[0])
                follower = int(model.joint(joint.name).qposadr[0])
                mimics[follower] = (leader, joint.mimic.multiplier, joint.mimic.offset)
        objects = {entry.name: model.joint(entry.name) for entry in self.layout.scene.objects}
        physics = PhysicsModel(
            self.robot,
            self.layout,
            model,
            (),
            mimics,
            {name: int(joint.qposadr[0]) for name, joint in objects.items()},
            {name: int(joint.dofadr[0]) for name, joint in objects.items()},
        )
        for joint_name in self.robot.movable_joint_names:
            data.qpos[model.joint(joint_name).qposadr[0]] = self.robot.neutral_position(joint_name)
        for follower, (leader, multiplier, offset) in mimics.items():
            data.qpos[follower] = multiplier * data.qpos[leader] + offset
        mujoco.mj_forward(model, data)
        inertia = np.zeros((model.nv, model.nv))
        mujoco.mj_fullM(model, data, inertia)
        joints = []
        for joint_name in self.robot.movable_joint_names:
            entry = model.joint(joint_name)
            actuator = int(model.actuator(joint_name).id)
            dof = int(entry.dofadr[0])
            # Followers add to what the leader's actuator has to move.
            moved = float(inertia[dof, dof])
            for follower_joint in self.urdf.joints.values():
                mimic = follower_joint.mimic
                if mimic is not None and mimic.joint == joint_name:
                    other = int(model.joint(follower_joint.name).dofadr[0])
                    moved += mimic.multiplier**2 * float(inertia[other, other])
            stiffness = moved * _SERVO_BANDWIDTH_RAD_S**2
            damping = 2.0 * _SERVO_DAMPING_RATIO * moved * _SERVO_BANDWIDTH_RAD_S
            model.actuator_gainprm[actuator, 0] = stiffness
            model.actuator_biasprm[actuator, :3] = (0.0, -stiffness, -damping)
            record = self.urdf.joints[joint_name]
            effort = record.effort if math.isfinite(record.effort) else _EFFORT_WITHOUT_LIMIT
            joints.append(
                DrivenJoint(joint_name, int(entry.qposadr[0]), dof, actuator, stiffness, damping, effort)
            )
        return PhysicsModel(
            physics.robot,
            physics.layout,
            model,
            tuple(joints),
            mimics,
            physics.object_qpos,
            physics.object_dof,
        )


def _add_geom(body: Any, primitive: Primitive) -> Any:
    kinds = {
        "box": mujoco.mjtGeom.mjGEOM_BOX,
        "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
        "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
        "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    }
    sizes = primitive.size_m
    if primitive.kind == "box":
        size = [0.5 * value for value in sizes]
    elif primitive.kind == "sphere":
        size = [sizes[0], 0.0, 0.0]
    else:
        size = [sizes[0], 0.5 * sizes[1], 0.0]
    geom = body.add_geom(
        type=kinds[primitive.kind],
        size=size,
        pos=primitive.pose[:3],
        quat=_wxyz(primitive.pose[3:]),
        rgba=primitive.rgba or _DEFAULT_RGBA,
        mass=0.0,
    )
    return geom


def _contact(geom: Any, friction: float) -> None:
    geom.condim = 4
    geom.friction = [friction, _TORSIONAL_FRICTION_M, _ROLLING_FRICTION_M]
    geom.solref = _CONTACT_SOLREF
    geom.solimp = _CONTACT_SOLIMP


def build_physics(robot: RobotModel, layout: SceneLayout) -> PhysicsModel:
    """Compile robot and scene. The pose of the root link is the world frame's origin.

    Raises `CaptureError` where MuJoCo refuses the robot (names that are taken, masses it cannot handle).
    """
    try:
        return _Builder(robot, layout).build()
    except (ValueError, mujoco.FatalError) as error:
        raise CaptureError(
            f"{robot.description.file}: {robot.urdf.path} cannot be simulated: {' '.join(str(error).split())}"
        ) from error
