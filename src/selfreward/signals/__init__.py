"""What a completion is worth. Files here are pure functions; ``scorers`` ask a model for their inputs."""
