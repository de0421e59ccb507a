"""How the small models of the toy tasks are made: their text, tokenizers, training, and the properties they must have."""
