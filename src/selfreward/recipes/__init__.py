"""Methods. ``recipes/FAMILY/some_name.py`` is the recipe ``some-name``; a family shares what it believes."""
