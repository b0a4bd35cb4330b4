"""Ways to run an `Invocation`: what starts, what is said to it, and when it is over. Behind one interface."""
