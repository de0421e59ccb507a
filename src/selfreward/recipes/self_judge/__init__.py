"""Self-judging: a model scores its own answers in words, by a scale, a rubric or a question."""
