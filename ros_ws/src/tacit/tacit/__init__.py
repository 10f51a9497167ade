"""tacit core: contracts on disk, geometry of touch, alignment of time, recording, acting, progress.

Pure Python: no torch, no rclpy. `runtime`, `footprint`, `robot` and `safety` are thin faces that keep the
import paths of users. Inside, imports point down this list only:
cli, footprint, robot, runtime, safety, tools > view > convert, drivers, progress, record >
control, episode, teleop > bundle, streams > rig > geometry > config, images, threads > errors, lazy.
"""

__version__ = "0.2.0"
