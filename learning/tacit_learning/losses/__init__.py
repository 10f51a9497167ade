"""Losses: pure functions of tensors, each tested against an independent formula.

Imports point down this list only: gtcc, lav, vava > sequence_terms, soft_dtw, tcc > act, club, contrastive,
cross_covariance, distances, flow, hsa, mixture, progress, progress_recipes, soft_dtw_kernels, transport.
"""
