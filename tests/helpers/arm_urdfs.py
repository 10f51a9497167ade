"""The vendor's URDFs of three arms, and URDFs of one chain in general."""

from __future__ import annotations

NAMES = tuple(f"joint{i}" for i in range(1, 7))
# (xyz, rpy) of the vendor's URDF files, with their own rounding of pi/2.
URDF_ROWS = {
    "nova2": [
        ((0, 0, 0.2234), (0, 0, 0)),
        ((0, 0, 0), (1.5708, 1.5708, 0)),
        ((-0.28, 0, 0), (0, 0, 0)),
        ((-0.22501, 0, 0.1175), (0, 0, -1.5708)),
        ((0, -0.12, 0), (1.5708, 0, 0)),
        ((0, 0.088004, 0), (-1.5708, 0, 0)),
    ],
    "nova5": [
        ((0, 0, 0.24), (0, 0, 0)),
        ((0, 0, 0), (-1.570803, 1.535866, 3.141593)),
        ((-0.399756, -0.013969, 0), (0, 0, 0)),
        ((-0.329799, -0.011524, 0.135), (0, 0, -1.535866)),
        ((0, -0.12, 0), (1.5708, 0, 0)),
        ((0, 0.088328, 0), (-1.5708, 0, 0)),
    ],
    "cr5": [
        ((0, 0, 0.147), (0, 0, 0)),
        ((0, 0, 0), (1.5708, 1.5708, 0)),
        ((-0.427, -0.00034866, 0), (0, 0, 0)),
        ((-0.357, 0.00034866, 0.141), (0, 0, -1.5708)),
        ((0, -0.116, 0), (1.5708, 0, 0)),
        ((0, 0.105, 0), (-1.5708, 0, 0)),
    ],
}


def write_urdf(rows, axis="0 0 1", kind="revolute") -> str:
    joints = []
    for i, (xyz, rpy) in enumerate(rows):
        parent = "base_link" if i == 0 else f"Link{i}"
        joints.append(
            f'<joint name="joint{i + 1}" type="{kind}"><parent link="{parent}"/><child link="Link{i + 1}"/>'
            f'<origin xyz="{" ".join(map(str, xyz))}" rpy="{" ".join(map(str, rpy))}"/>'
            f'<axis xyz="{axis}"/></joint>'
        )
    links = "".join(f'<link name="{n}"/>' for n in ["base_link", *(f"Link{i}" for i in range(1, 7))])
    return f'<robot name="arm">{links}{"".join(joints)}</robot>'
