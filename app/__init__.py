"""Wires everything together; the only place that reads settings. ``app → blueprints → services``, one direction."""
