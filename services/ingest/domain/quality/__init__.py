"""What an organisation wants of its events beyond their being valid, and what becomes of the others."""
