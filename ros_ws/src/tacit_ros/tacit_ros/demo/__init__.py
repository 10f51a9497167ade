"""`tacit demo`: the whole loop on one laptop, from an empty folder to a report.

settings (how much of everything) < steps (resume what is done) < session (talk to the nodes)
< stages (record, learn, act) < report < main.
"""
