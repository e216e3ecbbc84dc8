"""Images and labels on disk: shards and their samples, the epoch's order, the loader and its memory.

Here also: a room each for reading tars, labels, byte indexes, places of shards, and for building shards from images;
the drawn images of the demo.
Not here: what a batch is made of (``batches``), decoding and rendering (``views``), teacher probabilities (``store``).
"""
