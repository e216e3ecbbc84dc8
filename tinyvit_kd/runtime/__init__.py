"""What every other room stands on: processes and devices, signals, the watchdog, files, seeds, logs.

Here also: work spread over several processes, and memory that they share.
Not here: anything that knows of shards, views, stores or networks.
"""
