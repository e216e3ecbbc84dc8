"""What teachers say of a few samples, before one of them is chosen for a dump.

Here: which samples and their views (``first_views``), what a teacher answers (``answers``), where teachers agree
(``agreement``), brief trainings from them (``brief_student``), and the table of all that (``audition_text``).
Not here: how fast a teacher is here (``planning.measuring``), the dump and the training (``stages``).
"""
