"""Signals on whole groups: ``score(run, groups, **options)`` gives one float or None per completion of every group.

A scorer gets all groups at once, so that a model sees one batch and not one call per group. What it needs it takes from
the :class:`~selfreward.rollouts.run.RunContext`; what is not there raises ``UnavailableError`` with a sentence, and the
audit says so beside the signal's name instead of failing. The arithmetic stands in the file of the same name one level
up.
"""
