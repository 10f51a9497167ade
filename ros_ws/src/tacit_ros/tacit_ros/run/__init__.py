"""What runs together: stacks, `tacit up`, launch files, and clients of running nodes.

Imports point down this list only: launching, record_client, rig_doctor, up > scripted, stacks.
"""
