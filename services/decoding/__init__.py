"""Bytes of a CLI's output → events. Pure: no process, no clock, no configuration. Tested on recordings of the real CLIs."""
