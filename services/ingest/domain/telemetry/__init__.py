"""What servers tell about their clients' WebSocket connections and background jobs, and the schema of each kind."""
