"""The sparse store of teacher probabilities."""
