"""One command for a machine with a GPU: ``python -m benchmarks.gpu``. Until a step runs, Python alone will do."""
