"""What a trained model draws, measured on held-out episodes."""
