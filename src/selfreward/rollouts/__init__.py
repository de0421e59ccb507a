"""Who produces what: turns, other contexts, proposed problems, trees, environments."""
