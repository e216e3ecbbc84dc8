"""Runs and stores as one HTML file that anybody can open.

Here: the page, its curves, tables and pictures; the model card of an exported network.
Not here: what is shown in it, which ``analysis`` reads out of runs and stores.
"""
