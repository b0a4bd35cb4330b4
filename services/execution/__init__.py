"""Runs of CLIs: one read loop, one pool of processes that were started early, behind one `Driver`."""
