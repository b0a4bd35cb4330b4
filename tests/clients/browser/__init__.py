"""The pages that we serve, in a real browser that reaches nothing but this machine."""
