"""What a training run or a dump is framed by: what is opened, compared, resumed, scored and written around the work.

Here: student runs and their data, first weights, resume, identity, class lists, scoring, a new store, a second teacher.
Not here: what one command does (``stages``), the steps themselves (``training``), what loads batches (``batches``).
"""
