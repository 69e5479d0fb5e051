"""Programs for experiments: they import the core of the example, and the core never imports them."""
