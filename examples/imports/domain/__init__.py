"""What the import product and its simulated users decide, without files, Postgres, HTTP or a clock."""
