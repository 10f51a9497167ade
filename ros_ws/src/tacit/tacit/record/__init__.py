"""A recorder without ROS: intake, encoders, the writer, and the capture of calibration views.

Imports point down this list only:
recorder, preroll, capture > recording, monitor, encoder_pool, samples, stillness.
"""
