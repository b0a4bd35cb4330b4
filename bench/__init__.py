"""Measurements that anyone can repeat: ratios side by side in one run, medians over interleaved rounds. `python -m bench`."""
