"""What an operator calls beside the loop: doctor, benches, and the commands over episode files.

Imports point down this list only:
bench, check, check_progress, doctor, episodes, mend, rig_check, survey >
episodes_change, probes > episodes_choice.
"""
