"""colcon's way in; `pip install -e .` at the root of the repository is the other one."""

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "tacit_ros"
# `colcon build --symlink-install` runs a link to this file in a folder without scripts/.
NODES = sorted(script.name for script in (Path(__file__).resolve().parent / "scripts").iterdir())

setup(
    name=PACKAGE,
    version="0.2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "config/*", "run/desk/*.html"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", sorted(glob("launch/*.launch.py"))),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},  # tells colcon to test with pytest
    zip_safe=False,
    maintainer="The tacit authors",
    maintainer_email="maintainers@tacit.invalid",
    description="ROS 2 nodes of tacit: recorder, policy, progress, overlay",
    license="Apache-2.0",
    # setup.cfg sends these to lib/tacit_ros, where `ros2 run` looks; pip installs scripts/ there instead.
    entry_points={"console_scripts": [f"{node} = {PACKAGE}.{node}:main" for node in NODES]},
)
