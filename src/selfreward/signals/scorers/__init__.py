"""A model reads groups of completions, and numbers come out: ``function(context, groups, **options)``."""
