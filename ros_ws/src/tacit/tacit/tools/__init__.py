"""What an operator calls beside the loop: doctor, benches, and the commands over episode files.

Imports point down this list only:
bench, check, doctor, mend, survey > probes.
"""
