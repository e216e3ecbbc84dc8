"""Images and labels on disk: shards, their byte indexes, class lists, the epoch's order, the loader and its memory.

Here also: what ``shards build`` does, from the source images to the tars, and the drawn images of the demo.
Not here: what a batch is made of (``batches``), decoding and rendering (``views``), teacher probabilities (``store``).
"""
