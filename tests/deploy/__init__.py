"""The server as it is deployed: behind Debian's nginx, with the configuration in `deploy/`."""
