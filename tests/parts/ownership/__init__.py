"""One caller's things, and another caller's attempts on them."""
