"""Knowledge distillation for vision with the teacher taken out of the training loop."""

__version__ = "0.1.0"
