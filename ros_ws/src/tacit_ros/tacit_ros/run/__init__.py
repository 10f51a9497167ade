"""What runs together: stacks, `tacit up`, launch files, and clients of running nodes."""
