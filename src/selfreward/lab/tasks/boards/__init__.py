"""Games of two players whose best play is known."""
