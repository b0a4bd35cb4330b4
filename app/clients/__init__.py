"""Programs that use this server: how each is configured, and the edits of its configuration file that `clinvk connect` makes."""
