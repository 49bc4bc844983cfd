"""One module per family of the REST API; each turns requests into calls on the workspace's state."""
