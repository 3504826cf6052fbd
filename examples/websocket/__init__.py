"""A server that shows jobs' progress over WebSockets and tells Tidegate how that goes."""
