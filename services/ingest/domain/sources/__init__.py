"""Data sources without their networks: what one may be, how its messages become events, who runs it."""
