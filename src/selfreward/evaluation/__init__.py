"""Is it true, can it be believed, and how is it shown: held-out truth, audit, sentinel, reports."""
