"""Questions about pictures that are written as text."""
