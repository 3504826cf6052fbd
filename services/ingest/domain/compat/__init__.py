"""Other products' formats as our events: pure translation, one module a product."""
