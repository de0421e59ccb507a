"""How completions are drawn: by our own loop, by the model's own, or by a server."""
