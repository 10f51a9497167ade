"""LeRobot data sets, v3.0 and v2.1, both ways.

The layout is that of huggingface/lerobot 0.4.4 (v3.0) and 0.3.3 (v2.1), read there and measured against its
own loader. pyarrow and PyAV come with the extra `convert`.

Imports point down this list only: reading, writing > robot, storage > source > outgoing > ours, stats >
layout, videos.
"""
