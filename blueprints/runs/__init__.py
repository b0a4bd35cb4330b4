"""How a request's run is answered, on any surface: to its client, from its event log, or later."""
