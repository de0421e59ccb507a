"""Toy tasks whose truth is known, by the world that they are about; :mod:`selfreward.lab.embedded` names them."""
