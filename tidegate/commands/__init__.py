"""One command a module, named like it, each with `register(app)`; imported only when it is called."""
