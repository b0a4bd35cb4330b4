"""Real parts to test with: processes, a model API, a scripted CLI, a running server. Holds no tests of the product."""
