"""One image for every service, and what its containers need besides the services themselves."""
