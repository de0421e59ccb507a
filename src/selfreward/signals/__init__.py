"""What a completion is worth. Files are pure functions, one idea each; ``scorers`` ask a model for their inputs."""
