"""The machine around a run: processes, files, servers, and code that users bring.

Nothing here knows models, prompts or rewards. ``files`` and ``checkpoint`` keep what is written whole, ``options``
reads what users type, ``seeding`` derives seeds, ``distributed`` is talk between processes, ``endpoint`` with a server,
``user_code``, ``reward_process`` and ``sandbox`` run what others wrote, and ``doctor`` says what is in the way.
"""
