"""One file per command: what ``tinyvit-kd NAME`` does, from top to bottom.

Here: dump_logits, pretrain, finetune, evaluate, recipe, demo, status, compare, and the groups shards and store.
Not here: options and exit codes (``cli``, ``commands``), and what several commands share (``runs``).
"""
