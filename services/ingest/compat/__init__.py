"""Other products' clients, unmodified: their paths and answers before the intake that all ways in share."""
