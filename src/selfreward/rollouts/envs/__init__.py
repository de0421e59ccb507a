"""What answers back: games, retrievers."""
