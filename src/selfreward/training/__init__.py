"""One run, from its configuration to its folder; and runs side by side.

``config`` says what, ``launch`` loads it, ``trainer`` is the loop and ``learner`` the update, ``guards`` refuses bad
updates, ``run_log`` writes what happened. ``comparison`` runs several like for like, ``auditing`` and ``test_time`` use
a model without training it.
"""
