"""Train, ensemble and measure reward models."""
