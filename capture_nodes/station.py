"""The plan of a station: which processes run, with which parameters; and the `station` command.

The plan is plain data made from arguments and `config/station.yaml`, checked whole before anything
starts. The `station` command (`capture_nodes.station_supervisor`) and the launch files carry it
out. Nothing here imports rclpy.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capture_nodes.calibrate import calibrate
from capture_nodes.certain_exit import exit_within
from capture_nodes.resources import config_file
from capture_nodes.robot_list import list_robots
from capture_nodes.ros_environment import (
    picture_environment,
    prepare_ros_environment,
    station_environment,
)
from capture_nodes.sources.registry import (
    EMPTY_HANDED_SOURCES,
    LIVE_SOURCES,
)
from capture_nodes.station_arguments import (
    ParameterValue,
    StationArguments,
    StationError,
    chosen_domain,
    read_arguments,
)
from capture_nodes.station_checks import (
    check_combinations,
    check_recording,
    check_retargeting,
    check_robot,
    check_root,
    check_scene,
    check_trainer_source,
)
from capture_nodes.station_parameters import (
    absolute_path,
    headset_parameters,
    motion_rate_hz,
    operator_file,
    retargeting_parameters,
    scene_of,
    skill_of,
)
from capture_nodes.thread_priority import SERVING, prefer_thread

# The recorder completes the episode at hand and hears everyone's final counts before it ends.
_FINISHING_S = 25.0
# Over shared memory, which those that control the robot must not have (`config/fastdds.xml`).
_EXCHANGE_PICTURES = ("simulated_cameras", "recorder")
# To take this process's own DDS participant down.
_LEAVING_S = 3.0

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_BAD_ARGUMENTS = 2
EXIT_PROCESS_DIED = 3
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class ProcessPlan:
    """One process of a station.

    `executable` is its entry point (for launch), `module` what `python -m` runs; both are the same
    program. A `required` process that ends before the session does ends the station. `environment` is on top
    of the station's.
    """

    name: str
    executable: str
    module: str
    namespace: str
    node_name: str
    parameters: Mapping[str, ParameterValue]
    ready_timeout_s: float
    stop_timeout_s: float
    required: bool = True
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def fully_qualified_name(self) -> str:
        return f"{self.namespace.rstrip('/')}/{self.node_name}"


@dataclass(frozen=True)
class StationPlan:
    """Everything needed to run one station; `processes` in the order in which they are stopped.

    `warnings` are what the robot's URDF had that was mended, to be shown before starting.
    """

    arguments: StationArguments
    robot: str
    robot_file: Path
    namespace: str
    domain_id: int
    root: Path
    report_path: Path
    processes: tuple[ProcessPlan, ...]
    environment: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def has_session(self) -> bool:
        return self.arguments.episodes > 0


def make_plan(
    arguments: Mapping[str, str] | Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> StationPlan:
    """The plan for arguments (`{"robot": "kestrel"}` or `["robot:=kestrel"]`).

    Raises `StationError` with every problem: unknown names with the nearest match, values of the
    wrong type or out of bounds, files that are missing or malformed, a folder that cannot be
    written, arguments that do not go together.
    """
    environment = os.environ if environment is None else environment
    problems: list[str] = []
    settings = read_arguments(arguments, problems)
    domain_id = chosen_domain(settings, environment, problems)
    robot = check_robot(settings, problems)
    check_trainer_source(settings, problems)
    check_retargeting(settings, problems)
    check_scene(settings, robot, problems)
    root = check_root(settings, problems)
    check_combinations(settings, problems)
    check_recording(settings, problems)
    if problems or robot is None:
        raise StationError(problems)
    robot_name, robot_file = robot.name, robot.description.file
    report_path = root / ".station" / f"report_domain_{domain_id}.json"
    return StationPlan(
        arguments=settings,
        robot=robot_name,
        robot_file=robot_file,
        namespace=f"/{robot_name}",
        domain_id=domain_id,
        root=root,
        report_path=report_path,
        processes=_processes(settings, robot_name, robot_file, root, report_path, environment),
        environment=station_environment(environment, domain_id),
        warnings=robot.urdf.warning_lines(),
    )


def _processes(
    settings: StationArguments,
    robot: str,
    robot_file: Path,
    root: Path,
    report_path: Path,
    environment: Mapping[str, str],
) -> tuple[ProcessPlan, ...]:
    namespace = f"/{robot}"
    # A known robot goes by name, so that the file is found again by each process; others by path.
    robot_argument = settings.robot if settings.robot == robot else str(robot_file)
    session = settings.episodes > 0
    scene = str(scene_of(settings).absolute())

    def process(name: str, parameters: Mapping[str, ParameterValue], where: str = namespace) -> ProcessPlan:
        return ProcessPlan(
            name=name,
            executable=f"{name}_node",
            module=f"capture_nodes.{name}_node",
            namespace=where,
            node_name=name,
            parameters={"robot": robot_argument, **parameters},
            ready_timeout_s=settings.ready_timeout_s,
            stop_timeout_s=settings.stop_timeout_s + (_FINISHING_S if name == "recorder" else 0.0),
            environment=picture_environment(environment) if name in _EXCHANGE_PICTURES else {},
        )

    processes = [
        process("headset", headset_parameters(settings), "/trainer"),
        process(
            "retargeting",
            retargeting_parameters(settings),
        ),
        process(
            "simulated_robot",
            {"scene": scene, "seed": settings.seed, "command_timeout_s": settings.command_timeout_s},
        ),
    ]
    if settings.cameras:
        processes.append(
            process(
                "simulated_cameras",
                {
                    "scene": scene,
                    "width": settings.camera_width,
                    "height": settings.camera_height,
                    "rate_hz": settings.camera_rate_hz,
                },
            )
        )
    processes.append(
        process(
            "recorder",
            {
                "root": str(root),
                "config": absolute_path(settings.recorder_config),
                "skill": skill_of(settings),
                "operator": settings.operator,
                "source": settings.source,
                "scenario": settings.scenario,
                "instruction": settings.instruction,
                "assignment": settings.assignment,
                "robot_serial": settings.robot_serial,
                "station": json.dumps(dataclasses.asdict(settings)),
                "calibrations": operator_file(settings),
                "report_path": str(report_path),
                "command_rate_hz": settings.command_rate_hz,
                "motion_rate_hz": motion_rate_hz(settings),
                "camera_rate_hz": settings.camera_rate_hz,
            },
        )
    )
    if session:
        session_parameters: dict[str, ParameterValue] = {
            "episodes": settings.episodes,
            "cameras": settings.cameras,
            # Who has buttons or fingers that are seen can give the sign.
            "trainer_starts": settings.source in LIVE_SOURCES and settings.source not in EMPTY_HANDED_SOURCES,
            "timeout_s": settings.episode_timeout_s,
            "ready_timeout_s": settings.ready_timeout_s,
        }
        processes.insert(0, process("session", session_parameters))
    return tuple(processes)


def _pairing(settings: StationArguments) -> str:
    """For the terminal only: it shows the pairing token, which no log file may hold."""
    from capture_nodes.sources.webxr import DEFAULT_ADDRESS, WebxrParameters, pairing_text

    return pairing_text(WebxrParameters(settings.address or DEFAULT_ADDRESS))


def usage() -> str:
    """Help text: the arguments as the defaults file documents them."""
    text = config_file("station.yaml").read_text(encoding="utf-8")
    indented = "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())
    return (
        "usage: station [name:=value …]\n"
        "       station robots [--json] [--check]    which robots there are, and whether they can be used\n"
        "       station calibrate operator:=… source:=…    measure a trainer by poses\n\n"
        "Start a station on this machine: trainer, retargeting, robot, cameras, recorder, and a session\n"
        "that records the repetitions. Ctrl-C stops all in order; the episode at hand is completed.\n\n"
        "  station robot:=kestrel source:=script episodes:=3 root:=recordings\n"
        "  station robot:=g1 source:=bvh motion:=FILE.bvh episodes:=1\n"
        "  station robot:=g1 source:=bag file:=EPISODE.mcap episodes:=1\n\n"
        "exit code: 0 all went well; 1 the session failed, messages were lost or an episode failed its\n"
        "check of streams, limits, frames or grasp; 2 an argument or a file cannot be used; 3 a process\n"
        "died or never became ready; 130 interrupted\n\n"
        f"arguments and defaults (config/station.yaml):\n\n{indented}"
    )


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["robots"]:
        sys.exit(list_robots(words[1:]))
    if words[:1] == ["calibrate"]:
        sys.exit(calibrate(words[1:]))
    if any(word in ("-h", "--help", "help") for word in words):
        print(usage())
        sys.exit(EXIT_OK)
    prepare_ros_environment()
    try:
        plan = make_plan(words)
    except StationError as error:
        for problem in error.problems:
            print(f"station: error: {problem}", file=sys.stderr)
        sys.exit(EXIT_BAD_ARGUMENTS)
    for warning in plan.warnings:
        print(f"station: warning: {warning}", file=sys.stderr)
    if plan.arguments.source == "webxr":
        print(_pairing(plan.arguments), flush=True)
    os.environ.update(plan.environment)
    try:
        from capture_nodes.station_supervisor import Supervisor
    except ImportError as error:
        print(
            f"station: error: ROS 2 cannot be used from {sys.executable}: {error}. Source a ROS 2 install "
            "(source /opt/ros/<distribution>/setup.bash), or run `make demo` once and use .venv/bin/station",
            file=sys.stderr,
        )
        sys.exit(EXIT_BAD_ARGUMENTS)
    # Who stops the robot when a process dies must not wait for anybody's pictures.
    prefer_thread(SERVING)
    sys.exit(Supervisor(plan, at_the_end=lambda code: exit_within(_LEAVING_S, code)).run())


if __name__ == "__main__":
    main()
