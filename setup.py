"""Packaging of `teleop_capture` for colcon (ament_python) and pip."""

from collections import defaultdict
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "teleop_capture"
SHARE = Path("share") / PACKAGE
HERE = Path(__file__).resolve().parent
DATA_FOLDERS = ("launch", "config", "robot_descriptions")


def data_files():
    """Every data file under its own folder of the share folder."""
    by_folder = defaultdict(list)
    for folder in DATA_FOLDERS:
        for path in sorted((HERE / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                relative = path.relative_to(HERE)
                by_folder[str(SHARE / relative.parent)].append(str(relative))
    return [
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (str(SHARE), ["package.xml", "LICENSE"]),
        *sorted(by_folder.items()),
    ]


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Teleoperation of humanoid robots and capture of the demonstrations as MCAP files",
    license="Apache-2.0",
    maintainer="teleop_capture maintainers",
    maintainer_email="maintainers@teleop-capture.invalid",
    python_requires=">=3.10",
    packages=find_packages(
        include=["retargeting", "retargeting.*", "capture_nodes", "capture_nodes.*", "episodes", "episodes.*"]
    ),
    package_data={
        "capture_nodes": ["py.typed", "web/*"],
        "episodes": ["py.typed"],
        "retargeting": ["py.typed"],
    },
    data_files=data_files(),
    zip_safe=False,
    # rclpy and the message packages come with ROS (package.xml) or as wheels (requirements/demo.txt).
    install_requires=[
        "setuptools",
        "numpy>=1.26",
        "numba>=0.59",
        "mujoco>=3.2",
        "mcap>=1.2",
        "mcap-ros2-support>=0.5",
        "lz4",
        "zstandard",
        "pyyaml",
        "matplotlib>=3.6",
        "pillow",
        # faster CRC; without it zlib's is taken
        "isal>=1.6",
        # video; without it cameras are recorded as JPEG or raw
        "av>=17",
        # source:=webxr; without it the other sources work
        "aiohttp>=3.9",
        # HTTPS for headsets in the network, and the QR code of their pairing
        "cryptography>=41",
        "segno",
    ],
    extras_require={
        "robots": ["example-robot-data>=6", "xacro>=2"],
        # source:=openxr
        "openxr": ["pyopenxr>=1.1.6501"],
        "test": ["pytest", "hypothesis", "scipy", "pin", "daqp", "rosbags", "playwright"],
    },
    entry_points={
        "console_scripts": [
            "headset_node = capture_nodes.headset_node:main",
            "retargeting_node = capture_nodes.retargeting_node:main",
            "simulated_robot_node = capture_nodes.simulated_robot_node:main",
            "simulated_cameras_node = capture_nodes.simulated_cameras_node:main",
            "recorder_node = capture_nodes.recorder_node:main",
            "session_node = capture_nodes.session_node:main",
            "station = capture_nodes.station:main",
            "episodes = episodes.cli:main",
            "onboard = capture_nodes.onboard:main",
        ]
    },
)
