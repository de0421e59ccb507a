"""From rewards to what is learned: advantages, pairs, filters, rows."""
