"""Tests through a running server: its command line, its socket, real CLI processes."""
