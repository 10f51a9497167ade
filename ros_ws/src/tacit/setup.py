"""colcon's way in; `pip install -e .` at the root of the repository is the other one."""

from setuptools import find_packages, setup

PACKAGE = "tacit"

setup(
    name=PACKAGE,
    version="0.2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "rigs/*", "rigs/**/*", "view/*.html", "view/*.css", "view/*.js"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},  # tells colcon to test with pytest
    zip_safe=False,
    maintainer="The tacit authors",
    maintainer_email="maintainers@tacit.invalid",
    description="Core of tacit: rigs, geometry of touch, alignment of time, episodes, policy runtime",
    license="Apache-2.0",
    entry_points={"console_scripts": ["tacit = tacit.cli:main"]},
)
