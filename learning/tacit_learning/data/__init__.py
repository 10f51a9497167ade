"""Training data: episodes as rows, windows of them as batches, augmentation, statistics.

Imports point down this list only: annotation_importers > annotation_files, annotation_policies, augment >
annotations, spec, weights, windows > arrays, episodes, frame_times, keys, labels, statistics > pictures,
taxels > contract > rows, view.
"""
