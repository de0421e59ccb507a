"""How the small models of the toy tasks are made: text, tokenizers, training, and the properties they must have."""
