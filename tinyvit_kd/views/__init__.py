"""Views: seed to parameters to bytes."""
