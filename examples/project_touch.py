"""Where do the tactile sensors show in the camera? `python examples/project_touch.py nova2_sim top`."""

import sys

from tacit.rig import load_rig


def main(rig_name: str, camera: str) -> None:
    """Print the pixel box of every sensor in one camera, gripper open and closed."""
    rig = load_rig(rig_name)
    home = (rig.limits("lower") + rig.limits("upper")) / 2 if rig.home is None else rig.home
    for word in ("upper", "lower"):
        q = home.copy()
        q[list(rig.gripper_indices)] = rig.limits(word)[list(rig.gripper_indices)]
        for sensor, footprint in rig.sensor_boxes(q, camera).items():
            box = " ".join(f"{value:6.1f}" for value in footprint.box)
            print(f"{word} limit of the gripper: {sensor} in {camera}: {box} px")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ("nova2_sim", "top")))
