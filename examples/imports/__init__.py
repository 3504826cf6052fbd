"""The reference application: an import product that A/B-tests background against real-time processing."""
