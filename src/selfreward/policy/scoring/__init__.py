"""How likelihoods are read: one forward, shared prefixes, many targets."""
