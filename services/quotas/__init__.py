"""The limits of a key over all processes: how many of its runs go on at a time, and what they may use per window."""
