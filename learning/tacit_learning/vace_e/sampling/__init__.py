"""Videos drawn with a trained model."""
