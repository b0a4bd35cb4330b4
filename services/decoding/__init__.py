"""Decode a CLI's output into events. Pure: no process, clock or configuration. Tested on recordings of the real CLIs."""
