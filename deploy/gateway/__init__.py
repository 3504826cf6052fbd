"""The gateway's configuration, shared by the embedded stack and docker-compose."""
