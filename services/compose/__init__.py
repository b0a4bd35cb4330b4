"""Several runs for one request: parallel, chain, compare. Each is a `Plan`, checked before anything starts, and a
`Composition` that executes it through the runner."""
