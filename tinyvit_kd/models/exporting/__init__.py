"""Networks as files for other programs: timm's folder, ONNX, ``torch.export``; and ONNX files opened again.

Here: the network as it is exported, what a file says of itself, the check of each file against the network.
Not here: model files of our own (``models.modelfile``), what a run folder always holds (``models.export``), the text of
a model card (``reports``).
"""
