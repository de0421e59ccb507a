"""Self-play: an opponent who is as good as oneself sets problems for ever."""
