"""A retriever over a closed corpus: BM25 (the optional package ``bm25s``), behind a protocol of one method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from selfreward.errors import DataError, UserError


class Retriever(Protocol):
    """Whatever finds documents for queries: an index, a search engine, a server."""

    def search(self, queries: Sequence[str], k: int = 1) -> list[list[str]]:
        """The ``k`` best documents of every query, best first; fewer where fewer match at all."""


class BM25:
    """Okapi BM25 over short documents (Robertson and Zaragoza 2009), words as they stand, without stemming.

    Args:
        documents: the corpus.
        words: how a text is cut into words.

    Raises:
        DataError: for an empty corpus.
        UserError: where ``bm25s`` is not installed.
    """

    def __init__(self, documents: Sequence[str], words: Callable[[str], list[str]] = str.split) -> None:
        try:
            import bm25s
        except ImportError:
            raise UserError("Retrieval needs bm25s: pip install 'selfreward[search]'.") from None
        if not documents:
            raise DataError("The corpus to search in has no documents.")
        self.documents, self.words = list(documents), words
        self._index = bm25s.BM25()
        cut = [words(d) for d in self.documents]
        self._known = {w for c in cut for w in c}
        self._index.index(cut, show_progress=False)

    def search(self, queries: Sequence[str], k: int = 1) -> list[list[str]]:
        found: list[list[str]] = []
        for query in queries:
            # A query without a single known word matches nothing; BM25 alone would still rank the corpus.
            known = [w for w in self.words(query) if w in self._known]
            if not known:
                found.append([])
                continue
            ids, scores = self._index.retrieve([known], k=min(k, len(self.documents)), show_progress=False)
            found.append([self.documents[int(i)] for i, s in zip(ids[0], scores[0], strict=True) if s > 0])
        return found


class Shuffled:
    """The results of another retriever, dealt to the wrong queries of the same call: is what is found read at all?

    Every query gets the results of the next one; a call with a single query gets nothing.
    """

    def __init__(self, retriever: Retriever) -> None:
        self.retriever = retriever

    def search(self, queries: Sequence[str], k: int = 1) -> list[list[str]]:
        found = self.retriever.search(queries, k)
        return [*found[1:], found[0]] if len(found) > 1 else [[] for _ in found]
