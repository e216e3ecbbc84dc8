"""Processes, files, seeds and logs: what every layer stands on."""
