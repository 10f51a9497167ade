"""Geometry that knows no rig: rotations, transforms, cameras, chains of joints, footprints of touch.

Imports point down this list only:
robot > toolbox > fingers > footprint, camera_info, description, urdf > camera, kinematics > transforms >
rotations.
"""
