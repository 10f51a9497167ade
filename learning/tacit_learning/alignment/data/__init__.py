"""Videos and episodes as sequences of frames, and the batches drawn from them."""
