"""One acceptance test of everything that runs on a robot, over three ways to start the processes.

`make test-system`, or `python -m system.acceptance` with `tests` on the path. `acceptance` prints the table;
`director` starts and kills the processes of a `place`; `scenario` is the test itself, run where it can hear
the nodes; `witness` listens to them, and `camera` is a camera driver that may be killed.

Imports point down this list only: acceptance > director, models > places > camera; scenario > watching,
witness > lines.
"""
