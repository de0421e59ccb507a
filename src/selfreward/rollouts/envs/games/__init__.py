"""Two-player zero-sum games in text: rules, scripts, many games in one batch, exact exploitability.

``base`` is the protocol, ``openspiel`` an adapter to a library of games, ``scripts`` their words, ``play``
the loop, ``exact`` and ``measure`` the read-outs. Nothing here knows how anybody is trained.
"""
