"""Where notifications go: each wire format is a pure function, sending is in `sender`."""
