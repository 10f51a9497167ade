"""tacit core: contracts on disk, geometry of touch, alignment of time, runtime of policies.

Pure Python: no torch, no rclpy. Inside, imports point down this list only:
cli > view, convert > follow > episode > rig > rig_specs > robot, footprint > urdf > kinematics > camera >
transforms > rotations; geometry, units and workspace answer for a rig; streams, images, bundle, runtime,
safety, progress and proportions stand beside them on config and errors.
"""

__version__ = "0.1.0"
