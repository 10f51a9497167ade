"""What runs together: stacks, `tacit up`, launch files, clients of running nodes, the operator's desk.

Imports point down this list only:
launching, rig_doctor, rig_live, teleop_keys, up > desk > record_client > keys, preflight, scripted > stacks >
nodes, operator > commands.
"""
