"""What can be wrong with a rig, and is looked for: values, kinematics, joints, drift, boxes in pictures.

No check needs another. Imports point down this list only:
drift, gel_drift, joint_check, kinematic_check, rig_check, verify.
"""
