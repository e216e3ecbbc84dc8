"""Where the numbers of a run go: one file for each kind of logger.

Here: what a logger is (``base``), files of our own, Weights & Biases, MLflow, a thread for what may keep waiting.
Not here: which of them a run has (``runtime.metric_loggers``).
"""
