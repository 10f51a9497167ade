"""What can be wrong with a rig, and is looked for: values, kinematics, joints, drift, and boxes in pictures.

Imports point down this list only, and no check needs another:
drift, joint_check, kinematic_check, rig_check, verify.
"""
