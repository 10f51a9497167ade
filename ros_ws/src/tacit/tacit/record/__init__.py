"""A recorder without ROS: intake, encoders, the writer, and the capture of calibration views.

Imports point down this list only:
recorder > capture, preroll, references > attention, encoder_pool, monitor, recording, samples, stillness.
"""
