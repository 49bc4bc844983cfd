"""Two fraud models and a report on top of them, as a project of one's own."""
