"""The installation of Docker Compose on one machine."""
