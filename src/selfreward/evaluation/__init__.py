"""Is it true, can it be believed, and how is it shown.

``held_out`` measures truth on prompts with answers; ``audit`` says before training which signal can be trusted,
``sentinel`` watches one during training, ``report`` shows runs and comparisons. ``translation`` and ``turn_report``
measure what one number per completion does not say.
"""
