"""What answers a model back: games with rules and opponents, retrievers over documents."""
