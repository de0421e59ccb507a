"""The sentinel: what can be known about a run's health without a label, and what is done about it.

A run's own agreement and entropy cannot tell health from collapse: both halve in good runs, too. What
can is a view that the reward does not look at. ``probe`` takes one, every few steps, on a fixed set of
prompts: the answers to another wording of the questions, a frozen judge, the start model itself.
``monitors`` are the statistics of a step, ``detector`` reads the records of a run, live or from a file, and calls
what goes wrong by name; ``watch`` is what the trainer holds: it looks, calls, and says whether to stop or go back.
"""
