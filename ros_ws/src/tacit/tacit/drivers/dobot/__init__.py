"""Dobot's controllers (Nova, CR) over TCP, protocol V4: dashboard on 29999, feedback of 1440 bytes on 30004.

Written from the public "TCP/IP remote control interface guide" (V4.5.1). Imports point down this list only:
arm > gripper > dashboard, servo > protocol.
"""
